//! `envi`: what the process runs in. The keys that only a Java machine has are there, and empty.
//!
//! ZooKeeper: `Environment`.

use super::VERSION_LINE;
use std::env;
use std::fs;

pub fn text() -> String {
    let kernel =
        |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    let (free, total) = memory_mb();
    let user = User::of(rustix::process::getuid().as_raw(), &fs::read_to_string("/etc/passwd").unwrap_or_default());
    let values: [(&str, String); 18] = [
        ("zookeeper.version", VERSION_LINE.to_owned()),
        ("host.name", kernel("hostname")),
        ("java.version", "none".to_owned()),
        ("java.vendor", String::new()),
        ("java.home", String::new()),
        ("java.class.path", String::new()),
        ("java.library.path", String::new()),
        ("java.io.tmpdir", env::temp_dir().display().to_string()),
        ("java.compiler", "<NA>".to_owned()),
        ("os.name", kernel("ostype")),
        ("os.arch", if env::consts::ARCH == "x86_64" { "amd64" } else { env::consts::ARCH }.to_owned()),
        ("os.version", kernel("osrelease")),
        ("user.name", user.name),
        ("user.home", user.home),
        ("user.dir", env::current_dir().unwrap_or_default().display().to_string()),
        ("os.memory.free", format!("{free}MB")),
        ("os.memory.max", format!("{total}MB")),
        ("os.memory.total", format!("{total}MB")),
    ];
    let lines = values.into_iter().map(|(name, value)| format!("{name}={value}\n"));
    std::iter::once("Environment:\n".to_owned()).chain(lines).collect()
}

/// Whose process it is.
#[derive(Debug, PartialEq, Eq)]
struct User {
    name: String,
    home: String,
}

impl User {
    /// From the text of a password file; what is not there is what Java says then.
    fn of(uid: u32, passwd: &str) -> User {
        let fields = |line: &str| -> Option<User> {
            let mut fields = line.split(':');
            let (name, id, home) = (fields.next()?, fields.nth(1)?, fields.nth(2)?);
            (id.parse() == Ok(uid)).then(|| User { name: name.to_owned(), home: home.to_owned() })
        };
        passwd.lines().find_map(fields).unwrap_or_else(|| User { name: "?".to_owned(), home: "?".to_owned() })
    }
}

/// Free and total memory of the machine, in MB.
fn memory_mb() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    };
    (field("MemAvailable:").unwrap_or(0), field("MemTotal:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_apaches_in_its_order() {
        let keys = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split('=').next().unwrap_or_default().to_owned()).collect()
        };
        let recorded = fs::read_to_string("tests/testdata/fourletter/standalone_envi.txt").unwrap();
        assert_eq!(keys(&text()), keys(&recorded));
    }

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nzookeeper:x:117:124::/home/zookeeper:/usr/sbin/nologin\n";
        let user = |name: &str, home: &str| User { name: name.to_owned(), home: home.to_owned() };
        assert_eq!(User::of(117, passwd), user("zookeeper", "/home/zookeeper"));
        assert_eq!(User::of(7, passwd), user("?", "?"));
    }
}
