//! `tiphys image`, and the images that the binary makes of itself.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tiphys_runtime::image::{Credentials, ImageRecord, ImportProgress, Pull, SelfImage, Store};

use crate::{
    control::{self, Answer, Request},
    data_dir::{DataDir, Flag},
};

/// The image of the example application: the binary itself.
pub(crate) const DEMO: &str = "tiphys.local/demo:latest";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    data: Flag,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Import the images of an archive: `docker save`'s or an OCI layout, compressed or not; `-` reads one.
    Import { file: PathBuf },
    /// List images.
    Ls,
    /// Remove an image's names, and its layers once no container uses them.
    Rm { name: String },
    /// Pull an image from its registry.
    Pull { name: String },
}

/// An image in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    id: String,
    names: Vec<String>,
    size: u64,
}

impl From<ImageRecord> for Listed {
    fn from(record: ImageRecord) -> Self {
        let names = if record.names.is_empty() { record.digests } else { record.names };
        Self { id: record.id, names: names.into_iter().collect(), size: record.size }
    }
}

/// Makes the binary's own images, if they are not those of this very binary already.
pub(crate) fn pack_self(store: &Store, exe: &Path) -> Result<()> {
    let image = SelfImage {
        name: DEMO.to_owned(),
        entrypoint: vec!["/tiphys".to_owned(), "demo".to_owned()],
        ..SelfImage::default()
    };
    store.pack(exe, &[], &[image]).context("making an image of this program")?;
    Ok(())
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let data = DataDir::make(&arguments.data)?;
    let (request, archive): (_, Option<Box<dyn Read + Send>>) = match arguments.command {
        Command::Import { file } if file.as_os_str() == "-" => (Request::Import, Some(Box::new(io::stdin()))),
        Command::Import { file } => {
            let open = File::open(&file).with_context(|| format!("opening {}", file.display()))?;
            (Request::Import, Some(Box::new(open)))
        }
        Command::Ls => (Request::List, None),
        Command::Rm { name } => (Request::Remove { name }, None),
        Command::Pull { name } => (Request::Pull { name }, None),
    };
    let mut screen = Screen::new();
    let mut heard = |answer| screen.show(answer);
    if let Some(cluster) = control::connect(&data)? {
        return control::ask(cluster, &request, archive, &mut heard);
    }
    let _lock = data.lock_images()?.with_context(|| {
        format!(
            "the images of {} are in use: another `tiphys image` works on them, or a cluster starts; \
             try again when it is done",
            data.path().display()
        )
    })?;
    let store = Arc::new(Store::open(&data.runtime()).context("opening the image store")?);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")?;
    let mut archive = archive.unwrap_or_else(|| Box::new(io::empty()));
    perform(request, &mut archive, &store, &BTreeSet::new(), tokio.handle(), &mut heard)
}

/// Does what is asked for with a store that this process has open. `used` are layers that containers need.
pub(crate) fn perform(
    request: Request,
    archive: &mut dyn Read,
    store: &Arc<Store>,
    used: &BTreeSet<String>,
    tokio: &tokio::runtime::Handle,
    told: &mut (dyn FnMut(Answer) + Send),
) -> Result<()> {
    match request {
        Request::List => {
            for record in store.list()? {
                told(Answer::Image(record.into()));
            }
        }
        Request::Remove { name } => {
            store.find(&name)?;
            store.remove(&name, used)?;
        }
        Request::Import => {
            let imported = store.import(archive, &mut |progress| told(import_progress(progress)))?;
            for record in imported {
                told(Answer::Image(record.into()));
            }
        }
        Request::Pull { name } => {
            let pull = Pull::new(store.clone(), &name, Credentials::default())?;
            let told = Mutex::new(told);
            let record = tokio.block_on(pull.run(&|progress| {
                let (done, total) = (progress.fetched, Some(progress.total));
                told.lock()(Answer::Progress { done, total, what: "pulling".to_owned() });
            }))?;
            told.into_inner()(Answer::Image(record.into()));
        }
    }
    Ok(())
}

fn import_progress(progress: ImportProgress) -> Answer {
    match progress {
        ImportProgress::Read(bytes) => {
            Answer::Progress { done: bytes, total: None, what: "reading".to_owned() }
        }
        ImportProgress::Unpacking { layer, of } => {
            let (done, total) = (layer as u64, Some(of as u64));
            Answer::Progress { done, total, what: format!("unpacking layer {layer} of {of}") }
        }
    }
}

/// Progress where somebody watches, and a line for each image.
struct Screen {
    bar: ProgressBar,
}

impl Screen {
    fn new() -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {bytes}/{total_bytes}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    fn show(&mut self, answer: Answer) {
        match answer {
            Answer::Progress { done, total, what } => {
                if let Some(total) = total {
                    self.bar.set_length(total);
                }
                self.bar.set_position(done);
                self.bar.set_message(what);
            }
            Answer::Image(image) => {
                let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
                let id = id.get(..12).unwrap_or(id);
                self.bar.suspend(|| {
                    for name in &image.names {
                        println!("{name}\t{id}\t{}", HumanBytes(image.size));
                    }
                });
            }
            Answer::Done | Answer::Failed(_) => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
