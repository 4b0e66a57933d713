//! `garant init`: writes a starting policy for the site at a URL, with a comment at every choice.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use engine::Clock as _;
use engine::clock::SystemClock;
use policy::{HostPort, Origin, Scheme, Url, Value as _};

use crate::configuration::Configuration;
use crate::failure::{Failure, USAGE};
use crate::registry::Registry;
use crate::terminal::{Terminal, counted};

#[derive(Args, Debug)]
pub(crate) struct InitCommand {
    /// The site to watch, such as https://shop.example/
    url: String,

    /// Where to write the policy; `-` for standard output
    #[arg(long, short, value_name = "FILE", default_value = "garant.toml")]
    output: PathBuf,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,

    /// Name of the log, for good: the host of the site, or `site` where that is no name
    #[arg(long, value_name = "NAME")]
    log_name: Option<String>,

    /// Whom to tell when something is wrong: a mail address
    #[arg(long, value_name = "ADDRESS")]
    mail: Option<String>,

    /// The server that takes the mail, host and port; spoken to over TLS unless it is on this machine
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:25", requires = "mail")]
    mail_server: HostPort,

    /// Put a gate for development in front of this server, its address and port: for a site of this machine alone, such as
    /// https://shop.localhost:8443/, with a certificate of an authority that is made for it, in `garant-development` beside the policy
    #[arg(long, value_name = "ADDRESS:PORT")]
    development: Option<SocketAddr>,

    /// Write the result as JSON
    #[arg(long)]
    json: bool,
}

impl InitCommand {
    pub(crate) fn run(self, registry: &Registry, terminal: &mut Terminal) -> Result<ExitCode, Failure> {
        let url = self.url.parse::<Url>().map_err(|error| {
            Failure::new(format!("`{}` is not the URL of a site", without_secrets(&self.url)))
                .because(&error)
                .remedy("write the whole address, such as https://shop.example/")
                .code(USAGE)
        })?;
        let url = match url.target().split_once('?') {
            None => url,
            Some((_, query)) => {
                terminal.note(format!(
                    "left out of the policy: `?{}`, for a policy is no place for a token. If it is none, add it to `url`.",
                    if query.is_empty() { "" } else { "…" }
                ));
                without_query(&url)?
            }
        };
        let log_name = match self.log_name {
            None => log_name(&url),
            Some(name) if name.parse::<Origin>().is_ok() => name,
            Some(name) => {
                return Err(Failure::new(format!("`{name}` is not {}", Origin::SHAPE))
                    .remedy(format!("write it like --log-name {}", Origin::EXAMPLE.trim_matches('"')))
                    .code(USAGE));
            }
        };
        let told = match &self.mail {
            None => told_later(),
            Some(mail) => {
                let (name, domain) = mail.rsplit_once('@').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                    let failure = Failure::new(format!("`{}` is not a mail address", mail.escape_debug()));
                    failure.remedy("write one like lea@shop.example").code(USAGE)
                })?;
                told_by_mail(mail, name, domain, &self.mail_server)
            }
        };
        let mut policy = starting_policy(&url, &log_name, &told);
        if let Some(upstream) = self.development {
            let folder = development_folder(&self.output, &url)?;
            policy.push_str(&development_site(&url, upstream, &folder));
        }
        let policy = policy;
        if self.output.as_os_str() == "-" {
            if self.json {
                terminal.json(&serde_json::json!({ "watched": url.to_string(), "policy": null, "text": policy }));
            } else {
                terminal.raw(policy.as_bytes());
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true);
        if self.force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let written = options.open(&self.output).and_then(|mut file| file.write_all(policy.as_bytes()));
        written.map_err(|error| {
            let failure = Failure::new(format!("{} can't be written", self.output.display())).because(&error);
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                failure.remedy("choose another file with --output, or replace it with --force")
            } else {
                failure
            }
        })?;
        if self.development.is_some() {
            write_development(&development_folder(&self.output, &url)?, &url.host().to_string())?;
        }
        // What this command writes must pass `check`, or nothing is written.
        let configuration = Configuration::load(&self.output, registry).map_err(|mistakes| {
            Failure::new(format!("the starting policy has mistakes:\n{}", mistakes.render(terminal.err_coloured())))
        })?;
        if self.json {
            terminal.json(&serde_json::json!({
                "watched": url.to_string(),
                "policy": self.output,
                "log": log_name,
                "revision": configuration.applied.revision,
                "promises": configuration.applied.promises.len(),
            }));
            return Ok(ExitCode::SUCCESS);
        }
        terminal.note(format!(
            "{file} is written: {} is watched, {} are judged, {}, nothing is published.\n\
             Read it, then run:\n\n    garant up --policy {file}\n\n\
             Then the log is called `{log_name}` for good; --log-name gives it another name while it has none.",
            url,
            counted(configuration.applied.promises.len(), "promise"),
            self.mail.map_or_else(|| "nobody is told".to_owned(), |mail| format!("{mail} is told")),
            file = self.output.display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// The folder of the certificate for development, beside the policy.
fn development_folder(policy: &Path, url: &Url) -> Result<PathBuf, Failure> {
    let host = url.host().to_string();
    if url.scheme() != Scheme::Https || !gate::development::is_of_this_machine(&host) {
        return Err(Failure::new(format!("a gate for development can't be in front of {url}"))
            .because(&Failure::new("its certificate is trusted for names of this machine alone, over TLS"))
            .remedy("name the site so, as browsers lead to this machine: https://shop.localhost:8443/")
            .code(USAGE));
    }
    if policy.as_os_str() == "-" {
        return Err(Failure::new("a certificate for development has no place beside standard output")
            .remedy("name a file for the policy with --output")
            .code(USAGE));
    }
    let folder = policy.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder =
        std::path::absolute(folder).map_err(|error| Failure::new("there is no folder here").because(&error))?;
    Ok(folder.join("garant-development"))
}

/// Makes the certificate for development, with an authority of its own whose key is forgotten.
fn write_development(folder: &Path, host: &str) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Failure::new(format!("the certificate for development can't be written to {}", folder.display())).because(error)
    };
    let made = gate::development::development(host, SystemClock.now()).map_err(|why| failed(&Failure::new(why)))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| failed(&error))?;
    for (name, text, mode) in
        [("ca.pem", made.authority.as_str(), 0o644), ("site.pem", &made.chain, 0o644), ("site.key", &made.key, 0o600)]
    {
        store::write_whole(&folder.join(name), text.as_bytes(), mode).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// The gate for development, in front of one server.
fn development_site(url: &Url, upstream: SocketAddr, folder: &Path) -> String {
    format!(
        r#"
# For development, on this machine alone: have your browser trust {folder}/ca.pem, which is good for names under `localhost` and
# nothing else. It is valid for 90 days; `garant init --force` makes another one.
[gate]
http = []
https = ["127.0.0.1:{port}", "[::1]:{port}"]

[[site]]
domain = "{host}"
certificate = "{folder}/site.pem"
key = {{ file = "{folder}/site.key" }}
upstream = [{{ url = "http://{upstream}" }}]
# A browser that keeps to TLS for a name of this machine keeps to it for whatever else listens there. With `observe`, the finding
# `gate-headers` stays open for that.
hsts = false
"#,
        folder = folder.display(),
        port = url.port(),
        host = url.host(),
    )
}

/// Whether the host is a domain, and neither an address nor a name that every machine has.
fn is_domain(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_err() && host.contains('.')
}

/// The name of the log of a site: its domain. An address says nothing of whose log it is, and may be somebody else's tomorrow.
fn log_name(url: &Url) -> String {
    let host = url.host().to_string();
    if is_domain(&host) { host } else { "site".to_owned() }
}

/// The text without what may be a secret in it: what is before an `@`, and what follows a `?` or `#`.
fn without_secrets(text: &str) -> String {
    let whole = text.split_inclusive(['?', '#']).next().unwrap_or_default();
    let cut = if whole.len() < text.len() { "…" } else { "" };
    match whole.rsplit_once('@') {
        None => format!("{whole}{cut}"),
        Some((before, after)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            format!("{scheme}…@{after}{cut}")
        }
    }
}

/// The URL up to its query, in which people put tokens.
fn without_query(url: &Url) -> Result<Url, Failure> {
    let whole = url.to_string();
    let bare = whole.split('?').next().unwrap_or(&whole);
    bare.parse().map_err(|error| Failure::new(format!("`{bare}` is not the URL of a site")).because(&error))
}

/// Who is told, as a comment to be filled in.
fn told_later() -> String {
    r#"
# Who is told when something is wrong: one message for one cause. `garant notify test Léa` shows that it arrives.
# [mail]
# server = "127.0.0.1:25"         # the mail server of this machine; elsewhere: "smtp.shop.example:587", with user and password
# tls = "none"
# from = "garant@shop.example"
#
# [[person]]
# name = "Léa"
# language = "fr"
# channel = [{ mail = "lea@shop.example" }]
"#
    .to_owned()
}

/// Who is told: one person, by mail. What the server says of this is the same for every person to come.
fn told_by_mail(mail: &str, name: &str, domain: &str, server: &HostPort) -> String {
    let here = server.host.to_string().parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || server.host.to_string() == "localhost";
    let (tls, how) = if here { ("none", "on this machine") } else { ("starttls", "\"tls\" for port 465") };
    format!(
        r#"
# Who is told when something is wrong: one message for one cause. `garant notify test {name}` shows that it arrives.
[mail]
server = "{server}"
tls = "{tls}"                     # {how}
from = "garant@{domain}"
# user = "garant"                 # and its password, in a file that only garant may read:
# password = {{ file = "/etc/garant/mail.password" }}

[[person]]
name = "{name}"
language = "en"                  # or "fr"
channel = [{{ mail = "{mail}" }}]

[[promise]]
id = "WA-3"
text.fr = "Une panne est signalée à l'équipe en moins de 3 minutes."
text.en = "The team is told of a failure within 3 minutes."
reaction = {{ within = "3 min", over = "30 d" }}
"#
    )
}

/// The text of the starting policy, with everything that follows from the URL filled in, and who is `told`.
fn starting_policy(url: &Url, name: &str, told: &str) -> String {
    let host = url.host().to_string();
    let secure = url.scheme() == Scheme::Https;
    let is_name = is_domain(&host);
    let home = if is_name { &host } else { "your.domain" };
    let certificate =
        if secure { "\ncertificate_days = 14            # fewer left: degraded, and a finding" } else { "" };
    let answers = format!(
        r#"[[probe.http]]
name = "site-answers"
service = "site"
url = "{url}"
every = "30 s"                   # the longest time between two questions: a shorter outage may pass unseen
timeout = "10 s"
slower_than = "2 s"              # slower than that: degraded, which still counts as up
status = ["200-399"]{certificate}
"#
    );
    let shown_certificate = if secure {
        format!(
            r#"
[[probe.tls]]
name = "site-certificate"
service = "site"
address = "{host}:{port}"
every = "1 min"
certificate_days = 14            # time to renew, before a customer sees a warning
"#,
            port = url.port()
        )
    } else {
        String::new()
    };
    let name_resolves = if is_name {
        format!(
            r#"
[[probe.dns]]
name = "site-name"
service = "site"
domain = "{host}"
type = "A"
every = "1 min"
"#
        )
    } else {
        String::new()
    };
    format!(
        r#"# The policy of garant: what is promised, what is watched, who sees it.
# `garant check` shows every mistake in it; `garant policy reference` explains every key.

# Nothing leaves the team's own listener until this says true: look at your promises in private first.
publish = false
# time_zone = "Europe/Paris"      # in which people read times; UTC without it

[journal]
name = "{name}"                  # name of the log: its checkpoints are signed as "{name}/1"
# A log alone can't convict its own operator. Give its checkpoints to somebody else:
# witness = [{{ url = "https://witness.example/", vkey = "witness.example+…" }}]

[pages]
listen = "127.0.0.1:8480"        # the team: pages, /metrics, /api. Loopback only, for it asks for no password
# public = "127.0.0.1:8481"      # everybody: trust page and log, once `publish = true`; plain HTTP, so behind a proxy with TLS
# url = "https://trust.{home}/"  # how customers reach it

# From where garant looks: here. Name two or three hosts of others that always answer. When none of them does, our own
# line is dead, and what fails meanwhile is unknown instead of down.
# [[observer]]
# name = "local"
# canary = ["9.9.9.9:443", "1.1.1.1:443"]

[[service]]
name = "site"
title.fr = "Le site"
title.en = "The site"

{answers}{shown_certificate}{name_resolves}
# This machine: processor, memory, disks and RAID.
[[probe.host]]
name = "host"
service = "platform"
every = "10 s"

[[service]]
name = "platform"
title.fr = "La plateforme"
title.en = "The platform"

# A promise is a sentence to your customers, and what is measured to keep it honest.
[[promise]]
id = "AV-1"
text.fr = "Le site est disponible 99,9 % du temps."
text.en = "The site is available 99.9 % of the time."
availability = {{ service = "site", at_least = "99.9 %", over = ["30 d", "180 d", "365 d"] }}

[[promise]]
id = "WA-1"
text.fr = "Le site est contrôlé sans interruption, plusieurs fois par minute."
text.en = "The site is checked without interruption, several times a minute."
coverage = {{ service = "site", at_least = "99 %", over = "30 d" }}

[[promise]]
id = "WA-2.disk"
text.fr = "Aucun disque n'est rempli à plus de 80 %."
text.en = "No disk is filled above 80 %."
absence = {{ finding = "disk-usage", over = "30 d" }}

[[promise]]
id = "WA-2.raid"
text.fr = "Aucune grappe de disques ne fonctionne en mode dégradé."
text.en = "No disk array runs degraded."
absence = {{ finding = "raid-degraded", over = "30 d" }}
{told}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_said_again() {
        for (given, said) in [
            ("https://me:s3cret@shop.example/x", "https://…@shop.example/x"),
            ("me:s3cret@shop.example", "…@shop.example"),
            ("https://me:s3:cr@et@shop.example/?token=1", "https://…@shop.example/?…"),
            ("shop.example/?token=1", "shop.example/?…"),
            ("shop.example#token", "shop.example#…"),
            ("shop.example", "shop.example"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(given), said);
        }
    }
}
