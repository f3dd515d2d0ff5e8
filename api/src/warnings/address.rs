//! Addresses in a form that is understood, but not the usual one (upstream's `GetWarningsForIP` and
//! `GetWarningsForCIDR`).

use std::net::{IpAddr, Ipv6Addr};

use super::Warnings;
use crate::field::Path;
use crate::text::quote;
use crate::validation::names::parse_ip;

/// `::ffff:1.2.3.4` is the IPv4 address to Go.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn is_mapped(address: &Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// An IP address.
pub(super) fn ip(text: &str, path: &Path<'_>, warnings: &mut Warnings) {
    let Some(sloppy) = parse_ip(text) else { return };
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if !is_mapped(&v6) => {
            let canonical = v6.to_string();
            if canonical != text {
                warnings.push(format!(
                    "{path}: IPv6 address {} should be in RFC 5952 canonical format ({})",
                    quote(text),
                    quote(&canonical)
                ));
            }
        }
        Ok(IpAddr::V4(_)) => {}
        Ok(IpAddr::V6(_)) | Err(_) => warnings.push(format!(
            "{path}: non-standard IP address {} will be considered invalid in a future Kubernetes \
             release: use {}",
            quote(text),
            quote(&unmapped(sloppy).to_string())
        )),
    }
}

/// A range of addresses.
pub(super) fn range(text: &str, path: &Path<'_>, warnings: &mut Warnings) {
    let Some((address, bits)) = text.split_once('/') else { return };
    let (Some(sloppy), Ok(bits)) = (parse_ip(address), bits.parse::<u32>()) else { return };
    let width = if sloppy.is_ipv4() { 32 } else { 128 };
    if bits > width {
        return;
    }
    let network = masked(sloppy, bits);
    let standard = format!("{network}/{bits}");
    if network != sloppy {
        warnings.push(format!(
            "{path}: CIDR value {} is ambiguous in this context (should be {} or {}?)",
            quote(text),
            quote(&standard),
            quote(&format!("{sloppy}/{width}"))
        ));
    }
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => {}
        Ok(IpAddr::V6(v6)) if !is_mapped(&v6) => {
            let canonical = format!("{v6}/{bits}");
            if canonical != text {
                warnings.push(format!(
                    "{path}: IPv6 CIDR value {} should be in RFC 5952 canonical format ({})",
                    quote(text),
                    quote(&canonical)
                ));
            }
        }
        Ok(IpAddr::V6(_)) | Err(_) => warnings.push(format!(
            "{path}: non-standard CIDR value {} will be considered invalid in a future Kubernetes \
             release: use {}",
            quote(text),
            quote(&standard)
        )),
    }
}

/// The address with all bits after the first `bits` zero.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}
