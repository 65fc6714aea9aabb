//! The programs of the example application: a web server and its visitor. They run in pods of the cluster.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};

use crate::{files, initialize};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Answer every HTTP request with this host's name and a page.
    Serve {
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// A file whose text is served.
        #[arg(long)]
        page: PathBuf,
    },
    /// Ask a web server several times and print what it answers.
    Visit {
        /// Its name, which the cluster's DNS resolves.
        #[arg(long)]
        host: String,
        #[arg(long, default_value_t = 80)]
        port: u16,
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// Give every new pod the containers and volumes that a ConfigMap lists, as an initializer.
    Initialize(initialize::Arguments),
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Initialize(arguments) => initialize::run(&arguments),
        Command::Serve { port, page } => serve(port, &page),
        Command::Visit { host, port, times } => {
            let server = name_server()?;
            let address = lookup(server, &host).with_context(|| format!("resolving {host} by {server}"))?;
            println!("{host} is {address}");
            for (answer, count) in visit(SocketAddr::new(address.into(), port), times)? {
                println!("{count} x {answer}");
            }
            Ok(())
        }
    }
}

fn serve(port: u16, page: &Path) -> Result<()> {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("listening on {port}"))?;
    let host = nix::unistd::gethostname().context("asking for this host's name")?;
    let host = host.to_string_lossy();
    println!("{host} serves on port {port}");
    for connection in listener.incoming() {
        // One visitor's trouble is not the next one's.
        if let Err(error) = connection.map_err(Into::into).and_then(|c| answer(c, &host, page)) {
            println!("a visitor was lost: {error:#}");
        }
    }
    Ok(())
}

fn answer(mut connection: TcpStream, host: &str, page: &Path) -> Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = connection.read(&mut buffer)?;
        ensure!(n > 0 && request.len() < 16 * 1024, "the request has no end");
        request.extend_from_slice(&buffer[..n]);
    }
    // Read each time: the page follows its ConfigMap.
    let text = files::read_text(page)?;
    let body = format!("{} (from {host})\n", text.trim());
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// Asks for `/` so many times, each on a connection of its own, and counts the different answers.
pub(crate) fn visit(server: SocketAddr, times: u32) -> Result<BTreeMap<String, u32>> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        let mut connection = TcpStream::connect_timeout(&server, PATIENCE)
            .with_context(|| format!("connecting to {server}"))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        connection
            .take(64 * 1024)
            .read_to_string(&mut text)
            .with_context(|| format!("reading from {server}"))?;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => {
                *answers.entry(body.trim().to_owned()).or_default() += 1;
            }
            _ => bail!("{server} answered {:?}", text.lines().next().unwrap_or_default()),
        }
    }
    Ok(answers)
}

fn name_server() -> Result<SocketAddr> {
    let text = files::read_text(Path::new("/etc/resolv.conf"))?;
    let mut servers =
        text.lines().filter_map(|l| l.strip_prefix("nameserver ")?.trim().parse::<IpAddr>().ok());
    servers.next().map(|ip| SocketAddr::new(ip, 53)).context("/etc/resolv.conf names no server")
}

/// Asks one name server for an IPv4 address. A static binary cannot rely on the C library for that.
pub(crate) fn lookup(server: SocketAddr, host: &str) -> Result<Ipv4Addr> {
    let name = Name::from_ascii(format!("{}.", host.trim_end_matches('.')))?;
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(&question.to_vec()?)?;
    let mut buffer = [0; 1500];
    let n = socket.recv(&mut buffer).context("waiting for the answer")?;
    let answer = Message::from_vec(&buffer[..n])?;
    let found = answer.answers.iter().find_map(|record| match record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    found.with_context(|| format!("it has no address ({})", answer.metadata.response_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_page_follows_its_file() {
        let page = std::env::temp_dir().join(format!("tiphys-demo-{}", std::process::id()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = listener.local_addr().expect("an address");
        let file = page.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                answer(connection.expect("a visitor"), "argo", &file).expect("answered");
            }
        });
        for text in ["one", "two"] {
            std::fs::write(&page, text).expect("written");
            let answers = visit(server, 3).expect("answers");
            assert_eq!(answers, BTreeMap::from([(format!("{text} (from argo)"), 3)]));
        }
        std::fs::remove_file(&page).expect("removed");
    }
}
