//! Gives `src/cli/args.rs`, which is included here for its man page, the variables that it is compiled with.

fn main() {
    // Man pages tell neither commit nor target.
    println!("cargo::rustc-env=ECR_PUSH_COMMIT=");
    println!("cargo::rustc-env=ECR_PUSH_TARGET=");
    println!("cargo::rerun-if-changed=build.rs");
}
