//! Nobody ever sees a secret.

use std::fs;

use local_ecr::{ExpiredToken, Fault, FaultKind};

use super::{encoded, nobody_saw};
use crate::support::{Layout, Push, builder, start};

#[test]
fn no_secret_is_printed_or_written_at_any_verbosity() {
    let scenes = [
        || builder(),
        || builder().token_lifetime(5).expired_token(ExpiredToken::Challenge),
        || builder().deny("ecr:PutImage"),
        || builder().fault(Fault::on("*", "").nth(3).times(9).does(FaultKind::Cut)),
    ];
    for (scene, make) in scenes.iter().enumerate() {
        for verbosity in ["--quiet", "-vv"] {
            let (layout, ecr) = (Layout::fixture("good/one-manifest"), start(make()));
            let temporary = layout.parent().join("tmp");
            fs::create_dir(&temporary).unwrap();
            let push = Push::of(layout.path()).at(&ecr).to("app:v1").args([verbosity, "--retries=1"]);
            let push = push.env("TMPDIR", &temporary).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
            let ran = push.run();
            let mut secrets = ecr.issued_passwords();
            assert!(!secrets.is_empty(), "scene {scene}");
            secrets.extend(secrets.clone().iter().map(|password| encoded(&format!("AWS:{password}"))));
            secrets.push(ecr.secret_access_key().to_owned());
            // Some lines of base64 would do, too.
            secrets.extend(
                secrets.clone().iter().filter(|secret| secret.len() > 200).map(|secret| secret[60..140].to_owned()),
            );
            nobody_saw(&secrets, &[&ran.stdout, &ran.stderr], &[push.home(), layout.parent()]);
            if verbosity.starts_with("-v") {
                ran.says(["/v2/app/manifests/v1"]);
            }
        }
    }
}
