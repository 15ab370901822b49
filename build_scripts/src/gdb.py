# Symbols of a running Delias for gdb: of each cell, at the address where it lies now.
#
# Where the copies lie is read from the system's own memory whenever it stops: the map that its unwinder uses
# (`kernel/unwind/src/text_map.rs`). Which object a cell is of stands in a file that `delias gdb` renews while the system runs.
import gdb
import json
import struct

KNOWN = "@KNOWN@"
LAYOUT = json.loads('@LAYOUT@')  # offsets in bytes

loaded = {}  # by cell's number: file and address


def memory(address, length):
    return bytes(gdb.selected_inferior().read_memory(address, length))


def word(address):
    return struct.unpack("<Q", memory(address, 8))[0]


def rows():
    """The rows of the map: start of the text, cell's number, copy's number."""
    gs = int(gdb.parse_and_eval("$gs_base")) & (2**64 - 1)
    roots = word(gs + LAYOUT["roots"])
    text_map = word(roots + LAYOUT["text_map"])
    ranges, count = word(text_map + LAYOUT["ranges"]), word(text_map + LAYOUT["len"])
    text = memory(ranges, LAYOUT["row"] * count)
    for row in range(0, len(text), LAYOUT["row"]):
        start, = struct.unpack_from("<Q", text, row + LAYOUT["start"])
        cell, copy, flags = (struct.unpack_from("<I", text, row + LAYOUT[name])[0] for name in ("cell", "copy", "flags"))
        if flags & LAYOUT["no_cell"] == 0:
            yield start, cell, copy


def refresh():
    """Brings the symbols to what lies in memory."""
    with open(KNOWN) as file:
        known = {cell["number"]: cell for cell in json.load(file)}
    newer = []
    wanted = {}
    for start, number, copy in rows():
        cell = known.get(number)
        if cell is None or copy != cell["copy"]:
            newer.append(cell["name"] if cell else "of number %d" % number)
        else:
            wanted[number] = (cell["file"], start, cell["sections"])
    for number in [number for number, at in loaded.items() if wanted.get(number, (None, None))[:2] != at]:
        _, start = loaded.pop(number)
        gdb.execute("remove-symbol-file -a 0x%x" % start, to_string=True)
    for number, (path, start, sections) in wanted.items():
        if number not in loaded:
            places = " ".join("-s %s 0x%x" % (name, start + offset) for name, offset in sections)
            gdb.execute("add-symbol-file %s %s" % (path, places), to_string=True)
            loaded[number] = (path, start)
    if newer:
        print("replaced a moment ago, and without symbols until the next stop: cell " + ", ".join(newer))


class Symbols(gdb.Command):
    """delias-symbols: bring the symbols to what lies in memory; each stop does so by itself."""

    def __init__(self):
        super().__init__("delias-symbols", gdb.COMMAND_FILES)

    def invoke(self, argument, from_tty):
        refresh()
        print("%d cells have symbols" % len(loaded))


def stopped(event):
    try:
        refresh()
    except (gdb.error, OSError, ValueError) as error:
        print("the symbols could not be renewed: %s" % error)


Symbols()
gdb.events.stop.connect(stopped)
