# From the boot loader to long mode.
#
# Two entries, both in 32-bit protected mode with paging off: multiboot2 (eax = magic, ebx = boot information; Multiboot2
# Specification 2.0, 3.3) and PVH (ebx = hvm_start_info; Xen, docs/misc/pvh.pandoc). Both lead to one path, which maps
# the first 4 GiB one to one by 2 MiB pages, enters long mode and calls `nano_main(protocol, information, tsc)`.

.set CR0_PE, 1 << 0
.set CR0_EM, 1 << 2
.set CR0_MP, 1 << 1
.set CR0_NE, 1 << 5
.set CR0_PG, 1 << 31
.set CR4_PAE, 1 << 5
.set CR4_PGE, 1 << 7
.set CR4_OSFXSR, 1 << 9
.set CR4_OSXMMEXCPT, 1 << 10
.set MSR_EFER, 0xc0000080
.set EFER_LME, 1 << 8
.set EFER_NXE, 1 << 11
.set CPU_LM, 1 << 29
.set CPU_NX, 1 << 20

.section .multiboot2, "a"
.balign 8
multiboot2_header:
    .long 0xe85250d6                    # magic
    .long 0                             # architecture: i386, protected mode
    .long multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + 0 + (multiboot2_header_end - multiboot2_header))
    .word 6, 0                          # tag: modules begin at page boundaries
    .long 8
    .word 0, 0                          # tag: end
    .long 8
multiboot2_header_end:

.section .note.pvh, "a", @note
.balign 4
    .long 4                             # bytes in the name
    .long 8                             # bytes in the value
    .long 18                            # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad entry_pvh

.section .text.boot, "ax"
.code32
.global entry_multiboot2
entry_multiboot2:
    xor edi, edi
    cmp eax, 0x36d76289
    jne common
    mov edi, 1
    jmp common

entry_pvh:
    mov edi, 2

common:
    cli
    cld
    mov esi, ebx                        # edi, esi: the first two arguments of nano_main

    # Long mode and no-execute pages, or one sentence and out.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    and edx, CPU_LM | CPU_NX
    cmp edx, CPU_LM | CPU_NX
    jne no_long_mode

    # One top table, one table of 4 GiB, four tables of 1 GiB each; all in .bss, hence zero.
    mov eax, offset boot_tables + 0x1000 + 3
    mov [boot_tables], eax
    mov ecx, 0
1:  add eax, 0x1000
    mov [boot_tables + 0x1000 + ecx * 8], eax
    inc ecx
    cmp ecx, 4
    jne 1b
    mov eax, 0x83                       # present, writable, 2 MiB
    mov ecx, 0
2:  mov [boot_tables + 0x2000 + ecx * 8], eax
    add eax, 0x200000
    inc ecx
    cmp ecx, 4 * 512
    jne 2b

    mov eax, CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT
    mov cr4, eax
    mov eax, offset boot_tables
    mov cr3, eax
    mov ecx, MSR_EFER
    rdmsr
    or eax, EFER_LME | EFER_NXE
    wrmsr
    mov eax, cr0
    and eax, ~CR0_EM
    or eax, CR0_PG | CR0_NE | CR0_MP | CR0_PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    mov esp, offset boot_stack_top
    push 8
    mov eax, offset long_mode
    push eax
    retf

no_long_mode:
    mov esi, offset no_long_mode_text
3:  mov dx, 0x3fd
    in al, dx
    test al, 0x20
    jz 3b
    lodsb
    mov dx, 0x3f8
    out dx, al
    cmp al, 10
    jne 3b
    mov eax, 1
    out 0xf4, eax
4:  hlt
    jmp 4b

.code64
long_mode:
    rdtsc
    shl rdx, 32
    or rdx, rax                         # the third argument
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov esp, offset boot_stack_top
    xor ebp, ebp
    call nano_main
    ud2

.section .rodata.boot, "a"
no_long_mode_text:
    .ascii "nano_core: this CPU has no 64-bit mode or no no-execute pages, which Delias needs\n"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code, ring 0
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt

# The stack lies lowest in .bss, so that an overflow ruins constants of a program that then fails, not its page tables.
.section .bss.stack, "aw", @nobits
.balign 4096
    .skip 256 << 10
boot_stack_top:

.section .bss.tables, "aw", @nobits
.balign 4096
.global boot_tables
boot_tables:
    .skip 6 << 12
