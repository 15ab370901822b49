//! Services that come or go with `cfg/boot.toml`, and what would keep an update from doing that.

use super::side::Files;
use anyhow::{Context, Result};
use linker::Object;
use manifest::Service;

/// What happens to the list of services.
#[derive(Debug, Default)]
pub struct Services {
    /// Those that are ended. One whose implementation or parameters change is ended and started.
    pub ends: Vec<Service>,
    /// Those that are started.
    pub starts: Vec<Service>,
}

/// The services that only one of two lists has.
pub fn changes(base: &[Service], target: &[Service]) -> Services {
    let only =
        |all: &[Service], other: &[Service]| all.iter().filter(|service| !other.contains(service)).cloned().collect();
    Services { ends: only(base, target), starts: only(target, base) }
}

/// A sentence for each service that cannot come or go while the system runs.
///
/// What an update starts, the way back ends: so both need the symbol that ends a service.
///
/// # Errors
/// An object cannot be read.
pub fn obstacles(base: &Files, target: &Files, services: &Services) -> Result<Vec<String>> {
    let mut sentences = Vec::new();
    for (files, list, what) in
        [(base, &services.ends, "ended"), (target, &services.starts, "started, since it could not be ended again")]
    {
        for service in list {
            let symbol = service.revocation();
            if !defines(files, &symbol)? {
                sentences.push(format!(
                    "service {} cannot be {what}: no cell defines {symbol}; boot the new image instead",
                    service.name
                ));
            }
        }
    }
    Ok(sentences)
}

fn defines(files: &Files, symbol: &str) -> Result<bool> {
    for (index, cell) in files.manifest.cells.iter().enumerate() {
        let object = Object::parse(files.object(index)).with_context(|| format!("cell {}", cell.name))?;
        if object.defined().any(|defined| defined == symbol) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, parameters: &str) -> Service {
        Service {
            name: name.to_owned(),
            implementation: format!("delias_service_{name}"),
            parameters: parameters.to_owned(),
        }
    }

    #[test]
    fn what_changes_goes_and_comes() {
        let base = [service("stays", ""), service("goes", ""), service("changes", "1")];
        let target = [service("changes", "2"), service("comes", ""), service("stays", "")];
        let changed = changes(&base, &target);
        assert_eq!(changed.ends, [service("goes", ""), service("changes", "1")]);
        assert_eq!(changed.starts, [service("changes", "2"), service("comes", "")]);
        let none = changes(&base, &base);
        assert!(none.ends.is_empty() && none.starts.is_empty());
    }
}
