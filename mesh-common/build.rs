//! Compiles the wire protocols in `proto/` when the user-space half is built.

fn main() {
    println!("cargo:rerun-if-changed=proto");
    if std::env::var_os("CARGO_FEATURE_USER").is_none() {
        return;
    }
    let files = ["workload.proto", "authorization.proto", "citadel.proto", "xds.proto"];
    let descriptors = match protox::compile(files, ["proto"]) {
        Ok(descriptors) => descriptors,
        Err(e) => panic!("proto/: {e:?}"),
    };
    tonic_prost_build::configure()
        .compile_fds(descriptors)
        .unwrap_or_else(|e| panic!("cannot generate code from proto/: {e}"));
}
