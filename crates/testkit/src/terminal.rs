//! A person at a terminal, played by a test.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::pty::{Winsize, openpty};

/// A program at a terminal. It is killed when this is dropped.
pub struct Terminal {
    program: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let size = Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).context("making a terminal")?;
        let end = || pty.slave.try_clone().context("copying a terminal");
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        let program = command.spawn().context("starting a program at a terminal")?;
        // Only the program may hold its end, so that the screen ends with it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut reading = keyboard.try_clone().context("copying a terminal")?;
        let (show, screen) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // A terminal answers with an error once nobody is at its other end.
            while let Ok(count @ 1..) = reading.read(&mut chunk) {
                if show.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { program, keyboard, screen, seen: Vec::new() })
    }

    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes()).context("typing")
    }

    /// Waits until `text` is on the screen, and returns what has been shown since the last call.
    pub fn shows(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let seen = String::from_utf8_lossy(&self.seen).into_owned();
            if seen.contains(text) {
                self.seen.clear();
                return Ok(seen);
            }
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(chunk) => self.seen.extend(chunk),
                Err(RecvTimeoutError::Timeout) => bail!("the terminal does not show {text:?}: {seen:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("ended without showing {text:?}: {seen:?}"),
            }
        }
    }

    /// Waits for the program's end and returns its exit code.
    pub fn code(mut self) -> Result<Option<i32>> {
        while self.screen.recv().is_ok() {}
        Ok(self.program.wait().context("waiting for a program")?.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
