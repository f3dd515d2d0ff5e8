//! Flips bits in the memory of a process and in files: what cosmic rays, bad modules and bad disks do.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Larger pieces of memory are read in parts.
const PART: usize = 8 << 20;

/// Flips a bit in the middle of each place in the memory of a process where `marker` stands. Gives how many there were.
pub fn flip_in_memory(pid: u32, marker: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
    let mut flipped = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let range = line.split(' ').next().unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (begin, end) = range.split_once('-').map(|(a, b)| (number(a), number(b))).unwrap();
        let mut at = begin;
        while at < end {
            let mut part = vec![0; PART.min(usize::try_from(end - at).unwrap())];
            // What was unmapped meanwhile, and what cannot be read, has no marker.
            let Ok(count) = memory.read_at(&mut part, at) else { break };
            part.truncate(count);
            for place in found(&part, marker) {
                let middle = place + marker.len() / 2;
                flipped += usize::from(
                    memory.write_at(&[part[middle] ^ 2], at + middle as u64).is_ok_and(|n| n == 1),
                );
            }
            if count <= marker.len() {
                break;
            }
            // One that stands on the border is found in the next part.
            at += (count - marker.len() + 1) as u64;
            if at + marker.len() as u64 > end {
                break;
            }
        }
    }
    flipped
}

fn found(bytes: &[u8], marker: &[u8]) -> Vec<usize> {
    let first = marker[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts.map(|(at, _)| at).filter(|at| bytes[*at..].starts_with(marker)).collect()
}

/// Flips a bit in the middle of a file.
pub fn flip_in_file(path: &Path) {
    flip_in_file_at(path, fs::metadata(path).unwrap().len() / 2);
}

/// Flips a bit of one byte of a file.
pub fn flip_in_file_at(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 2], at).unwrap();
}
