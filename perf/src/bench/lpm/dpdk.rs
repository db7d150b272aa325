//! DPDK's `rte_lpm` and `rte_lpm6` as child processes that are asked round by round: `dpdk/lpm.c`, compiled at run
//! time where libdpdk-dev is installed. It needs no reserved huge pages: its memory is the process's own, with
//! transparent ones where it can.

use std::{
    collections::HashSet,
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{self, Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use altitude_dataplane::mapping::Prefix;

use super::{
    LpmError,
    model::left,
    subject::{Subject, compare},
    table::{Family, Table},
    traffic::Queries,
};

const SOURCE: &str = include_str!("../dpdk/lpm.c");

/// Above, `rte_lpm`'s own insert takes minutes, and its tables are written directly.
const ADD_MAX: usize = 50_000;

/// Most groups of 256 that `rte_lpm6` can have.
const GROUPS_MAX: usize = 1 << 21;

/// The program, in a folder that goes with it.
pub(super) struct Program {
    folder: PathBuf,
}

impl Program {
    /// Compiles it.
    ///
    /// # Errors
    /// Why there is none: libdpdk-dev, pkg-config or a C compiler is missing.
    pub(super) fn compile() -> Result<Self, String> {
        let flags = run(Command::new("pkg-config").args(["--cflags", "--libs", "libdpdk"]))
            .map_err(|_| "libdpdk-dev is not installed (pkg-config knows no libdpdk)".to_owned())?;
        let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
        let folder = env::temp_dir().join(format!("altitude-perf-lpm-{}", process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let program = Self { folder };
        let source = program.folder.join("lpm.c");
        fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O3", "-march=native", "-o"]).arg(program.path()).arg(source).args(flags.split_whitespace());
        run(&mut compiler).map(|_| program)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("lpm")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What cannot be removed stays in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn run(command: &mut Command) -> Result<Output, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}: {}", output.status, said.lines().next().unwrap_or_default()))
}

/// A running child with a table.
pub(super) struct Dpdk {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    family: Family,
    octets: u64,
    queries: Arc<Queries>,
}

impl Dpdk {
    /// Starts it on a core and fills it; what look-ups find is a prefix's place in the table.
    ///
    /// # Errors
    /// [`LpmError::Dpdk`].
    pub(super) fn start(program: &Program, core: usize, table: &Table) -> Result<Self, LpmError> {
        let direct = table.prefixes.len() > ADD_MAX;
        Self::start_filled(program, core, table, direct)
    }

    pub(super) fn start_filled(program: &Program, core: usize, table: &Table, direct: bool) -> Result<Self, LpmError> {
        let groups = groups(table) + 64;
        if table.family == Family::V6 && groups > GROUPS_MAX {
            return Err(LpmError::Dpdk(format!("rte_lpm6 cannot hold the table: it would need {groups} groups")));
        }
        // The first table of 2²⁴ words, the groups, the rules with their hash, and room.
        let megabytes = 192 + groups / 900 + table.prefixes.len() / 2000;
        let family = if table.family == Family::V4 { "4" } else { "6" };
        let mut child = Command::new(program.path())
            .args([family, &core.to_string(), &megabytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let queries = Arc::new(Queries::V4(Vec::new()));
        let mut started = Self { child, orders, answers, family: table.family, octets: 0, queries };
        started.answer()?;
        let how = if direct { "fill" } else { "add" };
        let octets =
            started.order(&format!("table {how} {} {groups}", table.prefixes.len()), &rules(&table.prefixes))?;
        started.octets = octets.parse().map_err(|_| LpmError::Dpdk(format!("answered {octets:?}")))?;
        Ok(started)
    }

    fn order(&mut self, line: &str, octets: &[u8]) -> Result<String, LpmError> {
        let orders = self.orders.as_mut().expect("open as long as this lives");
        let sent = writeln!(orders, "{line}").and_then(|()| orders.write_all(octets)).and_then(|()| orders.flush());
        // Of a child that is gone the last word says more than the pipe that broke.
        let answer = self.answer()?;
        sent.map_err(failed)?;
        Ok(answer)
    }

    fn answer(&mut self) -> Result<String, LpmError> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(failed)?;
        let line = line.trim_end();
        match line.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().to_owned()),
            None if line.is_empty() => Err(LpmError::Dpdk("ended without a word".to_owned())),
            None => Err(LpmError::Dpdk(line.to_owned())),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> LpmError {
    LpmError::Dpdk(error.to_string())
}

impl Drop for Dpdk {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.orders.take();
        let _ = self.child.wait();
    }
}

impl Subject for Dpdk {
    fn name(&self) -> &'static str {
        match self.family {
            Family::V4 => "rte_lpm",
            Family::V6 => "rte_lpm6",
        }
    }

    fn octets(&self) -> u64 {
        self.octets
    }

    fn take(&mut self, queries: &Arc<Queries>) -> Result<(), LpmError> {
        let octets: Vec<u8> = match &**queries {
            Queries::V4(addresses) => addresses.iter().flat_map(|address| address.to_ne_bytes()).collect(),
            Queries::V6(addresses) => addresses.concat(),
        };
        self.order(&format!("queries {}", queries.len()), &octets)?;
        self.queries = queries.clone();
        Ok(())
    }

    fn verify(&mut self, batch: usize, expected: &[u32]) -> Result<(), LpmError> {
        self.order(&format!("answers {batch} {}", expected.len()), &[])?;
        let mut octets = vec![0; 4 * expected.len()];
        self.answers.read_exact(&mut octets).map_err(failed)?;
        let words = octets.as_chunks::<4>().0;
        let answers: Vec<u32> = words.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        compare(self.name(), &self.queries, expected, &answers)
    }

    fn round(&mut self, batch: usize, length: Duration) -> Result<f64, LpmError> {
        let answer = self.order(&format!("round {batch} {}", length.as_micros()), &[])?;
        answer.parse().map_err(|_| LpmError::Dpdk(format!("answered {answer:?}")))
    }
}

/// `struct rule` of each prefix, short ones first.
fn rules(prefixes: &[Prefix]) -> Vec<u8> {
    let mut order: Vec<u32> = (0..prefixes.len() as u32).collect();
    order.sort_by_key(|index| prefixes[*index as usize].length());
    let mut octets = Vec::with_capacity(24 * prefixes.len());
    for index in order {
        let prefix = &prefixes[index as usize];
        octets.extend_from_slice(&left(prefix.address()).to_be_bytes());
        octets.extend_from_slice(&u32::from(prefix.length()).to_ne_bytes());
        octets.extend_from_slice(&index.to_ne_bytes());
    }
    octets
}

/// How many groups of 256 a table takes: one for each block of 24, 32, 40, … bits with a longer prefix inside.
fn groups(table: &Table) -> usize {
    let level = |bits: u8| {
        let longer = table.prefixes.iter().filter(|prefix| prefix.length() > bits);
        longer.map(|prefix| left(prefix.address()) >> (128 - u32::from(bits))).collect::<HashSet<_>>().len()
    };
    (24..table.family.bits()).step_by(8).map(level).sum()
}
