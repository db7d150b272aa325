//! C programs against the built library and an API server on a real socket.

mod router;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use altitude_control::api::{Flags, Header, Op};
use router::{Router, Tables, cache_entry};
use socket2::{Domain, SockAddr, Socket, Type};

/// A folder of its own for a test's sockets and programs; short, as a socket's path must be. Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("altitude-ffi-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Compiles `tests/NAME.c` against the shared library.
    fn program(&self, name: &str) -> PathBuf {
        let library = library_folder();
        let run_path = format!("-Wl,--disable-new-dtags,-rpath,{}", library.display());
        self.compile(name, &[Path::new("-L"), &library, Path::new("-laltitude"), Path::new(&run_path)])
    }

    fn compile(&self, name: &str, libraries: &[&Path]) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = self.path(name.rsplit('/').next().expect("a name"));
        let output = Command::new("cc")
            .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-pedantic", "-Werror", "-g", "-I"])
            .arg(source.join("include"))
            .arg(source.join(format!("tests/{name}.c")))
            .arg("-o")
            .arg(&program)
            .args(libraries)
            .output()
            .expect("a C compiler: docker/deps.sh installs one");
        assert!(output.status.success(), "{name}.c: {}", String::from_utf8_lossy(&output.stderr));
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where cargo has put the library that this test depends on, in all its crate types: beside the test.
fn library_folder() -> PathBuf {
    let folder = env::current_exe().expect("a path").parent().expect("a folder").to_owned();
    assert!(folder.join("libaltitude.so").exists(), "no libaltitude.so in {}", folder.display());
    folder
}

fn run(program: &mut Command) -> (String, Option<i32>) {
    let output = program.output().expect("a program that starts");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (said, output.status.code())
}

/// What `show SOCKET arguments…` prints.
fn show(program: &Path, socket: &Path, arguments: &[&str]) -> String {
    run(Command::new(program).arg(socket).args(arguments)).0
}

const WIDE: &str = "[0]2.2.0.0/16 version 9 flags 2 act 0 origin 2 ttl 86400 left 86000 hits 7 octets 700 \
     created 1700000000123 used 0 gen 42 rlocs 2
  240.0.254.20 1/60 255/0 flags 11
  2001:db8::20 2/40 255/0 flags 10
";
const NEGATIVE: &str = "[0]2.2.9.0/24 version 0 flags 1 act 1 origin 1 ttl 0 stays hits 0 octets 0 \
     created 0 used 1000 gen 42 rlocs 0
";
const TENANT: &str = "[5]2.2.0.0/16 version 0 flags 1 act 3 origin 128 ttl 60 stays hits 0 octets 0 \
     created 0 used 0 gen 42 rlocs 0
";
const SIX: &str = "[0]2001:db8:2::/48 version 0 flags 1 act 2 origin 2 ttl 60 stays hits 0 octets 0 \
     created 0 used 0 gen 42 rlocs 0
";
const OWN: &str = "[0]1.1.0.0/16 version 0 flags 2 act 0 origin 1 ttl 86400 stays hits 0 octets 0 \
     created 0 used 0 gen 42 rlocs 1
  240.0.254.10 1/100 255/0 flags 33
";
const NONE: &str = "there is no such entry, or no such socket\n";

#[test]
fn a_c_program_looks_up_and_dumps() {
    let folder = Folder::new("show");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let program = folder.program("show");
    let whole = [WIDE, NEGATIVE, SIX, TENANT, "4 entries\n"].concat();
    let own = format!("{OWN}1 entries\n");
    let cases: [(&[&str], &str); 11] = [
        (&["cache"], &whole),
        (&["database"], &own),
        (&["cache", "2.2.2.2"], WIDE),
        (&["cache", "2.2.2.2/32"], WIDE),
        (&["cache", "2.2.0.0/16"], WIDE),
        (&["cache", "2.2.9.9"], NEGATIVE),
        (&["cache", "2.2.9.9", "5"], TENANT),
        (&["cache", "2001:db8:2::1"], SIX),
        (&["database", "1.1.1.1"], OWN),
        // A mask asks for exactly the prefix.
        (&["cache", "2.2.0.0/17"], NONE),
        (&["cache", "3.3.3.3"], NONE),
    ];
    for (arguments, expected) in cases {
        assert_eq!(show(&program, router.path(), arguments), expected, "{arguments:?}");
    }
}

#[test]
fn a_dump_of_many_messages_arrives_whole() {
    const ENTRIES: u32 = 3000;
    let folder = Folder::new("dump");
    let cache = (0..ENTRIES).map(|n| cache_entry(&format!("10.{}.{}.0/24", n / 256, n % 256), 20)).collect();
    let router = Router::start(&folder.path("map.sock"), Tables { cache, ..Tables::default() });
    let said = show(&folder.program("show"), router.path(), &["cache"]);
    let prefixes = said.lines().filter_map(|line| line.strip_prefix("[0]")?.split(' ').next());
    assert!(prefixes.eq((0..ENTRIES).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))));
    assert_eq!(said.lines().count(), ENTRIES as usize * 21 + 1);
    assert!(said.ends_with(&format!("\n{ENTRIES} entries\n")));
}

#[test]
fn the_static_library_is_enough() {
    let folder = Folder::new("static");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let library = library_folder().join("libaltitude.a");
    // As README.md says.
    let program = folder.compile("show", &[&library, Path::new("-Wl,--gc-sections")]);
    assert_eq!(show(&program, router.path(), &["cache", "2.2.2.2"]), WIDE);
}

/// The arguments of `errors`: sockets of a router, of one that died, and of none.
fn errors(folder: &Folder, router: &Router) -> [PathBuf; 3] {
    let dead = folder.path("dead.sock");
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    socket.bind(&SockAddr::unix(&dead).expect("an address")).expect("a file");
    [router.path().to_owned(), dead, folder.path("missing.sock")]
}

#[test]
fn what_cannot_be_done_has_its_number() {
    let folder = Folder::new("errors");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let (said, code) = run(Command::new(folder.program("errors")).args(errors(&folder, &router)));
    assert_eq!((said.as_str(), code), ("0 failures\n", Some(0)));
}

#[test]
fn a_c_program_changes_and_hears() {
    let folder = Folder::new("write");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let (said, code) = run(Command::new(folder.program("write")).arg(router.path()));
    assert_eq!((said.as_str(), code), ("0 failures\n", Some(0)));
}

#[test]
fn packets_go_through_and_threads_beside_a_writer() {
    let folder = Folder::new("packet");
    let library = library_folder();
    let run_path = format!("-Wl,--disable-new-dtags,-rpath,{}", library.display());
    let library: [&Path; 5] =
        [Path::new("-L"), &library, Path::new("-laltitude"), Path::new(&run_path), Path::new("-pthread")];
    let (said, code) = run(&mut Command::new(folder.compile("packet", &library)));
    assert_eq!((said.as_str(), code), ("0 failures\n", Some(0)));
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"].map(Path::new);
    let (said, code) = run(&mut Command::new(folder.compile("packet", &[flags.as_slice(), &library].concat())));
    assert_eq!((said.as_str(), code), ("0 failures\n", Some(0)), "under sanitizers");
}

#[test]
fn the_tunnel_example_brings_packets_back() {
    let folder = Folder::new("tunnel");
    let library = library_folder();
    let run_path = format!("-Wl,--disable-new-dtags,-rpath,{}", library.display());
    let library: [&Path; 4] = [Path::new("-L"), &library, Path::new("-laltitude"), Path::new(&run_path)];
    let program = folder.compile("../examples/tunnel", &library);
    let (said, code) = run(Command::new(program).args(["300", "0"]));
    println!("{said}");
    assert!(code == Some(0) && said.contains("came out as it went in: yes") && said.contains("300 prefixes"), "{said}");
}

#[test]
fn the_examples_compile_without_a_warning() {
    let folder = Folder::new("examples");
    let library = library_folder();
    let run_path = format!("-Wl,--disable-new-dtags,-rpath,{}", library.display());
    let program =
        folder.compile("../examples/mapd", &[Path::new("-L"), &library, Path::new("-laltitude"), Path::new(&run_path)]);
    let (said, code) = run(&mut Command::new(program));
    assert_eq!((said.as_str(), code), ("usage: mapd SOCKET RLOC MAP-RESOLVER\n", Some(2)));
}

#[test]
fn what_is_installed_is_found_by_pkg_config_and_works() {
    let folder = Folder::new("install");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (said, code) = run(Command::new(source.join("install")).arg(library_folder()).arg(&folder.0));
    assert_eq!(code, Some(0), "{said}");
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.args(["--cflags", "--libs", "altitude"]).env("PKG_CONFIG_PATH", folder.path("lib/pkgconfig"));
    let Ok(output) = pkg_config.output() else { return println!("SKIP: no pkg-config on this machine") };
    let flags = String::from_utf8(output.stdout).expect("text");
    assert_eq!(flags.trim(), format!("-I{0}/include -L{0}/lib -laltitude", folder.0.display()));
    let program = folder.path("show");
    let mut compile = Command::new("cc");
    compile
        .args(["-std=c11", "-D_POSIX_C_SOURCE=200809L"])
        .arg(source.join("tests/show.c"))
        .args(flags.split_whitespace());
    let (said, code) = run(compile.arg("-o").arg(&program));
    assert_eq!(code, Some(0), "{said}");
    let mut show = Command::new(&program);
    show.env("LD_LIBRARY_PATH", folder.path("lib")).arg(router.path()).args(["cache", "2.2.2.2"]);
    assert_eq!(run(&mut show).0, WIDE);
}

#[test]
fn c_programs_are_clean_under_sanitizers() {
    let folder = Folder::new("sanitized");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let library = library_folder();
    let run_path = format!("-Wl,--disable-new-dtags,-rpath,{}", library.display());
    for (name, arguments) in [("write", vec![]), ("show", vec!["cache"]), ("show", vec!["cache", "9.9.9.9"])] {
        let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"].map(Path::new);
        let library: [&Path; 4] = [Path::new("-L"), &library, Path::new("-laltitude"), Path::new(&run_path)];
        let program = folder.compile(name, &[flags.as_slice(), &library].concat());
        let (said, code) = run(Command::new(program).arg(router.path()).args(&arguments));
        assert!(
            !said.contains("Sanitizer") && !said.contains("runtime error") && code.is_some_and(|code| code < 2),
            "{name}: {said}"
        );
    }
}

/// Starts `outlive`, lets `fate` happen to its router, and tells its two results.
fn outlive(name: &str, socket: &Path, folder: &Folder, fate: impl FnOnce()) -> [i32; 2] {
    let mut program = Command::new(folder.program("outlive"))
        .arg(socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a program that starts");
    let mut said = BufReader::new(program.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
    assert_eq!(said.next().as_deref(), Some("open"), "{name}");
    fate();
    program.stdin.take().expect("a pipe").write_all(b"\n").expect("a listener");
    let results: Vec<i32> = said.map(|line| line.parse().expect("a number")).collect();
    let status = program.wait().expect("a status");
    assert!(status.success(), "{name}: {status}: {results:?}");
    results.try_into().expect("two results")
}

#[test]
fn a_router_that_goes_away_is_an_error_and_no_signal() {
    let folder = Folder::new("gone");
    let path = folder.path("map.sock");
    let router = Router::start(&path, Tables::small());
    let [first, second] = outlive("gone", &path, &folder, || drop(router));
    // A program that another test has forked and that has not begun yet keeps its copy of the router's end open: the
    // question then still goes out, and it is the answer that does not come.
    assert!([-libc::EPIPE, -libc::ECONNRESET].contains(&first), "{first}");
    assert_eq!(second, -libc::ENOTCONN);
}

#[test]
fn an_answer_to_another_question_is_never_taken() {
    let folder = Folder::new("other");
    let path = folder.path("map.sock");
    let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    listener.bind(&SockAddr::unix(&path).expect("an address")).expect("a file");
    listener.listen(1).expect("a listener");
    let server = thread::spawn(move || {
        let (client, _) = listener.accept().expect("a client");
        let late = Header { op: Op::GET, flags: Flags::REPLY, errno: 0, sequence: 99, generation: 0 };
        client.send(&late.message(&[])).expect("a reader");
        client // open until the program has ended
    });
    let results = outlive("other", &path, &folder, || {});
    assert_eq!(results, [-libc::EPROTO, -libc::ENOTCONN]);
    drop(server.join().expect("a server that ends"));
}

#[test]
fn no_octet_is_touched_that_is_not_ours_and_none_is_lost() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIP: no valgrind on this machine");
        return;
    }
    let folder = Folder::new("valgrind");
    let router = Router::start(&folder.path("map.sock"), Tables::small());
    let judge = |program: &str, arguments: &[PathBuf]| {
        let (said, code) = run(Command::new("valgrind")
            .args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=all"])
            .arg("--errors-for-leak-kinds=definite,indirect,possible")
            .arg(folder.program(program))
            .args(arguments));
        assert_eq!(code, Some(0), "{program}:\n{said}");
    };
    judge("errors", &errors(&folder, &router));
    judge("show", &[router.path().to_owned(), "cache".into()]);
    judge("show", &[router.path().to_owned(), "cache".into(), "2.2.2.2".into()]);
    judge("write", &[router.path().to_owned()]);
    judge("packet", &[]);
}
