//! The program, run as a user runs it.
#![allow(clippy::unwrap_used)] // clippy.toml exempts test functions, not what they call

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-namesrv-lite"));
    command.env("HOME", home).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    program(home.path()).args(arguments).output().unwrap()
}

/// The one line that an unsuccessful run says.
fn complaint(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success() && output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim_end().to_owned()
}

#[test]
fn help_and_settings_go_to_standard_output() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("--listen HOST:PORT") && help.contains("0.0.0.0:9876"));
    let settings = String::from_utf8(run(&["-p", "--listen", "127.0.0.1:9999"]).stdout).unwrap();
    assert!(settings.contains("bindAddress=127.0.0.1\nlistenPort=9999\nkvConfigPath="));
    for line in settings.lines() {
        let (key, _) = line.split_once('=').unwrap();
        assert!(help.contains(&format!("  {key}=")), "--help does not tell {key}");
    }
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    assert!(complaint(&["--lisen"]).contains("invalid option '--lisen'; --help tells the options"));
    assert!(complaint(&["--listen", "9876"]).contains("--listen 9876: expected HOST:PORT"));
    assert!(complaint(&["-c", "/nowhere/namesrv.conf"]).contains("cannot read /nowhere/namesrv.conf: "));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("namesrv.conf");
    std::fs::write(&file, "listenPort=x").unwrap();
    let file = file.to_str().unwrap();
    assert!(complaint(&["-c", file]).contains(&format!("{file}: line 1: listenPort is \"x\"")));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    assert!(complaint(&["--listen", &addr]).contains(&format!("cannot listen on {addr}: ")));
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_in_order() {
    for signal in ["TERM", "INT"] {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("namesrv.conf");
        std::fs::write(&file, "listenPort=0\nbindAddress=127.0.0.1\nuseTLS=false").unwrap();
        let mut child = program(home.path()).arg("-c").arg(&file).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(log.next().unwrap().contains("does not act on keys=\"useTLS\""));
        let listens = log.next().unwrap();
        assert!(listens.contains("name server listens addr=127.0.0.1:"), "{listens}");
        assert!(!listens.contains('\u{1b}'), "no colour into a pipe");

        Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
        assert!(child.wait().unwrap().success());
        assert!(log.last().unwrap().contains("name server stopped"));
    }
}
