//! Compiles the wire protocols in `proto/` when the user-space half is built.

fn main() {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "user")]
    wire_types();
}

#[cfg(feature = "user")]
fn wire_types() {
    let files = [
        "workload.proto",
        "audit.proto",
        "authorization.proto",
        "citadel.proto",
        "enrolment.proto",
        "xds.proto",
    ];
    let descriptors = protox::compile(files, ["proto"]).unwrap_or_else(|e| panic!("proto/: {e:?}"));
    tonic_prost_build::configure()
        .compile_fds(descriptors)
        .unwrap_or_else(|e| panic!("cannot generate code from proto/: {e}"));
}
