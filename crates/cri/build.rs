//! Generates the messages, clients and servers without needing `protoc` on the host.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/runtime.proto");
    let descriptors = protox::compile(["proto/runtime.proto"], ["proto"])?;
    tonic_prost_build::configure().skip_debug(["AuthConfig"]).compile_fds(descriptors)?;
    Ok(())
}
