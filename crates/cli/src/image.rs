//! `revirt image`.

use anyhow::Result;
use guests::{Kernel, ServerOptions};
use serde_json::json;

use crate::args::{DebianKernel, Image};
use crate::exit::Exit;
use crate::report::Report;

pub(crate) fn image(arguments: &Image, report: &Report) -> Result<Exit> {
    let options = ServerOptions {
        include: arguments.include.clone(),
        kernel: match arguments.kernel {
            DebianKernel::Cloud => Kernel::Cloud,
            DebianKernel::Generic => Kernel::Generic,
        },
        bytes: arguments.size,
        ssh_key: arguments.ssh_key.clone(),
    };
    let built = guests::build_server(&arguments.output, &options, report.narrator())?;
    let image = built.image.display();
    let key = built.key.as_ref().map(|key| key.display().to_string());
    let opened = key.as_ref().map_or_else(String::new, |key| {
        format!("\nThe key that lets you in as root over SSH is {key}")
    });
    let text = format!(
        "{image} is a Debian server.{opened}\n\
         Record it with: revirt record --disk {image} --boot-from-disk --memory 1G -o DIR"
    );
    let fields = json!({ "image": image.to_string(), "key": key });
    Ok(report.finish(Exit::Yes, &text, fields))
}
