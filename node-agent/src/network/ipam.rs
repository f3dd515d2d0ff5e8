//! Which pod has which address, on disk.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{Error, Result};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Table {
    /// Address to owner.
    used: BTreeMap<Ipv4Addr, String>,
    /// The address given last: the search goes on behind it, so that a freed address rests.
    last: Option<Ipv4Addr>,
}

/// Gives `owner` an address of `cidr`: the one it has already, else the next free one.
pub fn allocate(path: &Path, cidr: Ipv4Net, gateway: Ipv4Addr, owner: &str) -> Result<Ipv4Addr> {
    let mut table = read(path)?;
    let known = table.used.iter().find(|(address, who)| *who == owner && cidr.contains(*address));
    if let Some((address, _)) = known {
        return Ok(*address);
    }
    let (first, last) = (u32::from(cidr.network()), u32::from(cidr.broadcast()));
    let start = table.last.filter(|last| cidr.contains(last)).map_or(first, u32::from);
    let candidates = (start.saturating_add(1)..last).chain(first + 1..=start.min(last - 1));
    let free = candidates
        .map(Ipv4Addr::from)
        .find(|address| *address != gateway && !table.used.contains_key(address))
        .ok_or(Error::Full(cidr))?;
    table.used.insert(free, owner.to_owned());
    table.last = Some(free);
    write(path, &table)?;
    Ok(free)
}

/// Takes all addresses of `owner` back. Idempotent.
pub fn release(path: &Path, owner: &str) -> Result<()> {
    let mut table = read(path)?;
    let before = table.used.len();
    table.used.retain(|_, who| who != owner);
    if table.used.len() == before { Ok(()) } else { write(path, &table) }
}

/// Everyone who has an address.
pub fn owners(path: &Path) -> Result<Vec<String>> {
    Ok(read(path)?.used.into_values().collect())
}

fn read(path: &Path) -> Result<Table> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|err| Error::io(path)(err.into())),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(Table::default()),
        Err(err) => Err(Error::io(path)(err)),
    }
}

fn write(path: &Path, table: &Table) -> Result<()> {
    crate::builtin::record::write(path, table).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_rest_when_freed_and_run_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ipam.json");
        let cidr: Ipv4Net = "10.1.2.0/29".parse().unwrap();
        let gateway: Ipv4Addr = "10.1.2.1".parse().unwrap();
        let give = |who: &str| allocate(&path, cidr, gateway, who).map(|a| a.octets()[3]);
        assert_eq!(give("a").unwrap(), 2);
        assert_eq!(give("a").unwrap(), 2, "asked again, the same");
        assert_eq!(give("b").unwrap(), 3);
        release(&path, "a").unwrap();
        assert_eq!(give("c").unwrap(), 4, "2 rests");
        assert_eq!([give("d").unwrap(), give("e").unwrap()], [5, 6]);
        assert_eq!(give("f").unwrap(), 2);
        assert!(matches!(give("g"), Err(Error::Full(_))));
        assert_eq!(owners(&path).unwrap().len(), 5);
    }
}
