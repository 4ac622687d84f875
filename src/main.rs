fn main() -> std::process::ExitCode {
    zabkit::cli::main()
}
