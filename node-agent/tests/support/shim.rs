//! A shim and nothing else, for the tests of the built-in runtime.

fn main() -> std::process::ExitCode {
    quorate_node_agent::builtin::shim_main(std::env::args_os().skip(1))
}
