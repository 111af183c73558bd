//! Links `podwright-oci` at a fixed address: a position-independent program relocates ten thousand pointers in itself each
//! time it starts, which is a tenth of its life. It handles the configuration of its caller, who is root, and nothing else.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Later options win over rustc's own -static-pie.
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}
