//! Links `podwright-shim` at a fixed address: a position-independent program relocates thousands of pointers in itself at each
//! start, and keeps the pages they are in for itself. It reads what the agent, who is root, sends, and containers' output.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Later options win over rustc's own -static-pie.
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}
