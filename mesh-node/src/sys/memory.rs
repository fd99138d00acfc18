//! Memory that was needed once, and is not any more.

use rustix::mm::{Advice, madvise};
use std::fs;
use std::io;

/// Gives back freed heap, and the pages of code, most of which ran once. Code that runs again comes back
/// from the page cache, page by page.
///
/// # Errors
/// When the kernel does not tell what is mapped.
pub fn release_unused() -> io::Result<()> {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some("r-xp")) = (fields.next(), fields.next()) else {
            continue;
        };
        let ours = fields
            .nth(3)
            .is_some_and(|path| program.as_os_str() == path);
        let Some((start, end)) = range.split_once('-').filter(|_| ours) else {
            continue;
        };
        let address = |text| usize::from_str_radix(text, 16);
        if let (Ok(start), Ok(end)) = (address(start), address(end)) {
            // SAFETY: the range is the program's code, mapped from its file and never written: a page
            // that is dropped reads the same again.
            unsafe {
                madvise(
                    std::ptr::with_exposed_provenance_mut(start),
                    end - start,
                    Advice::LinuxDontNeed,
                )?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on() {
        super::release_unused().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let program = std::env::current_exe().unwrap();
        let code = |line: &&str| line.contains("r-xp") && line.ends_with(program.to_str().unwrap());
        assert!(maps.lines().any(|line| code(&line)), "{maps}");
    }
}
