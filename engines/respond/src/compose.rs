//! The words of messages, in French and English.
//!
//! A message says what is wrong, how far it reaches, since when, what was seen, what to do, and how to take it on; the most
//! important first, for it is read at night on a small screen.

use event::policy::Text;
use event::{Time, Zone};
use serde_json::json;

use crate::act::{Language, Message, Severity, What};
use crate::detect::alert::{Alert, AlertId, Lead, Source};
use crate::detect::desk::{Desk, Letter, LetterThread, Now};
use crate::link::Use;

/// Most names that one sentence lists.
const NAMES_MAX: usize = 8;
/// Most alerts that a digest lists.
const LISTED_MAX: usize = 20;
/// Longest subject, in characters.
const SUBJECT_MAX: usize = 120;
/// Longest detail, in characters.
const DETAIL_MAX: usize = 400;

/// The context of the words: language, zone, the address of links.
pub(crate) struct Composer<'a> {
    /// The desk.
    pub desk: &'a Desk,
    /// The zone of times.
    pub zone: &'a Zone,
    /// The address before `/a/`, if links are possible.
    pub links: Option<&'a str>,
    /// The time.
    pub now: Now,
}

const fn pick(text: &Text, language: Language) -> &String {
    match language {
        Language::Fr => &text.fr,
        Language::En => &text.en,
    }
}

/// One of two words.
const fn say(language: Language, fr: &'static str, en: &'static str) -> &'static str {
    match language {
        Language::Fr => fr,
        Language::En => en,
    }
}

const fn severity_word(severity: Severity, language: Language) -> &'static str {
    match severity {
        Severity::Critical => say(language, "critique", "critical"),
        Severity::Warning => say(language, "avertissement", "warning"),
        Severity::Info => "info",
    }
}

/// The number with its noun: "3 services".
fn counted(number: usize, singular: &str, plural: &str, language: Language) -> String {
    // French counts zero and one alike.
    let one = number == 1 || number == 0 && matches!(language, Language::Fr);
    format!("{number} {}", if one { singular } else { plural })
}

/// As much of a text as fits, on one line.
fn cut(text: &str, most: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let kept: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

impl Composer<'_> {
    /// The message of a letter to this person.
    pub(crate) fn message(&self, letter: &Letter, language: Language) -> Option<Message> {
        let first = letter.threads.first()?;
        match (letter.what, letter.threads.as_slice()) {
            (What::Test, _) => Some(self.test(first, language)),
            (_, [only]) => self.one(only, language),
            (_, several) => self.digest(several, language),
        }
    }

    fn identifier(&self, thread: &LetterThread) -> String {
        let count = self.desk.threads.get(&thread.key).map_or(0, |thread| thread.count);
        let place = crate::digest(&[thread.key.person.as_bytes(), thread.key.channel.as_bytes()]);
        format!("{}-{}-{}-{count}", self.desk.memory.name, thread.key.alert, crate::hex(&place[..6]))
    }

    fn thread(&self, alert: AlertId) -> String {
        format!("{}-{alert}", self.desk.memory.name)
    }

    fn test(&self, thread: &LetterThread, language: Language) -> Message {
        let subject = say(language, "[test] Message de test de garant", "[test] Test message of garant");
        let text = match language {
            Language::Fr => {
                "Ceci est un message de test : rien ne va mal. Vous le recevez, donc le chemin vers vous fonctionne. Il n’y a rien à faire."
            }
            Language::En => {
                "This is a test message: nothing is wrong. You receive it, so the way to you works. There is nothing to do."
            }
        };
        Message {
            id: self.identifier(thread),
            thread: self.thread(0),
            what: What::Test,
            severity: Severity::Info,
            language,
            subject: subject.to_owned(),
            short: format!("garant: {}", say(language, "message de test, rien à faire", "test message, nothing to do")),
            text: text.to_owned(),
            link: None,
            runbook: None,
            fields: json!({ "what": "test", "at": self.now.wall.to_rfc3339() }),
            receipt: self.receipt(thread),
        }
    }

    fn one(&self, thread: &LetterThread, language: Language) -> Option<Message> {
        let alert = self.desk.alerts.get(&thread.key.alert)?;
        let lead = alert.lead.as_ref()?;
        let headline = self.headline(alert, thread, language);
        let mark = match thread.what {
            What::Resolved if alert.gone => say(language, "plus surveillé", "no longer watched"),
            What::Resolved => say(language, "résolu", "resolved"),
            _ => severity_word(lead.severity, language),
        };
        let subject = cut(&format!("[{mark}] {headline}"), SUBJECT_MAX);
        let short = match thread.what {
            What::Resolved if alert.gone => {
                format!("{} : {headline}", say(language, "Plus surveillé", "No longer watched"))
                    .replace(" :", colon(language))
            }
            What::Resolved => {
                format!("{} : {headline}", say(language, "Résolu", "Resolved")).replace(" :", colon(language))
            }
            What::Reminder => {
                format!("{} : {headline}", say(language, "Rappel", "Reminder")).replace(" :", colon(language))
            }
            // What is cut off by a short channel is the end.
            _ => format!("{} : {headline}", severity_word(lead.severity, language)).replace(" :", colon(language)),
        };
        let short = format!("{short}, {}", self.since(alert, lead, thread.over, language));
        let link = self.link(thread, alert, lead);
        let runbook = alert.opening.runbook.as_ref().filter(|_| !thread.over).map(|text| pick(text, language).clone());
        Some(Message {
            id: self.identifier(thread),
            thread: self.thread(alert.id),
            what: thread.what,
            severity: lead.severity,
            language,
            subject,
            short,
            text: self.lines(alert, lead, thread, &headline, language).join("\n"),
            link,
            runbook,
            fields: self.fields(alert, lead, thread),
            receipt: self.receipt(thread),
        })
    }

    /// What is wrong, in a sentence without a full stop: the one thing, or the place and how much of it.
    pub(crate) fn headline(&self, alert: &Alert, thread: &LetterThread, language: Language) -> String {
        let title = pick(&self.shown(alert, thread.over).opening.title, language);
        let joined = usize::try_from(thread.joined).unwrap_or(usize::MAX);
        let scope = self.desk.scope_now(alert.id);
        if joined < 2 || scope.services.len() < 2 {
            let flaps = if alert.flapping { say(language, " (état instable)", " (it flaps)") } else { "" };
            let others = self.others(alert, joined).count();
            let more = match (others, language) {
                (0, _) => String::new(),
                (_, Language::Fr) => format!(", et {others} de plus"),
                (_, Language::En) => format!(", and {others} more"),
            };
            return format!("{title}{flaps}{more}");
        }
        let places = &self.desk.rules.places;
        let services = counted(scope.services.len(), "service", "services", language);
        if let Some(host) = scope.host() {
            let all = places.services_of_host(host);
            let of = share(scope.services.len(), all, language);
            let word = say(language, "Hôte", "Host");
            return format!("{word} {host}{} {services}{of} {}", colon(language), down(scope.services.len(), language));
        }
        if let Some(region) = scope.region() {
            let word = say(language, "Région", "Region");
            let hosts = match scope.hosts.len() {
                0 => String::new(),
                number => {
                    let of = share(number, places.hosts_of_region(region), language);
                    format!(
                        "{}{of}, ",
                        counted(number, say(language, "hôte", "host"), say(language, "hôtes", "hosts"), language)
                    )
                }
            };
            let of = share(scope.services.len(), places.services_of_region(region), language);
            return format!(
                "{word} {region}{} {hosts}{services}{of} {}",
                colon(language),
                down(scope.services.len(), language)
            );
        }
        format!(
            "{services} {}{} {}",
            down(scope.services.len(), language),
            colon(language),
            self.names(alert.id, language)
        )
    }

    /// The alerts from outside that follow in a group, of which no name of a service speaks.
    fn others(&self, alert: &Alert, joined: usize) -> impl Iterator<Item = &Alert> {
        let members = self.desk.members.get(&alert.id).map_or(&[][..], Vec::as_slice).iter().take(joined);
        let others = members.skip(1).filter_map(|id| self.desk.alerts.get(id));
        others.filter(|other| other.opening.source == Source::Outside)
    }

    /// The alert of a group whose words are shown: the leader, or while it is over and others are not, the first of these.
    fn shown<'b>(&'b self, alert: &'b Alert, over: bool) -> &'b Alert {
        let members = self.desk.members.get(&alert.id).into_iter().flatten();
        let firing = || members.filter_map(|id| self.desk.alerts.get(id)).find(|member| member.fires());
        if over || alert.fires() { alert } else { firing().unwrap_or(alert) }
    }

    /// The names of the services of a group, the first ones.
    fn names(&self, group: AlertId, language: Language) -> String {
        let scope = self.desk.scope_now(group);
        let mut names: Vec<String> = scope
            .services
            .iter()
            .take(NAMES_MAX)
            .map(|service| pick(&self.desk.rules.places.title(service), language).clone())
            .collect();
        if let Some(more) = scope.services.len().checked_sub(NAMES_MAX).filter(|more| *more > 0) {
            names.push(match language {
                Language::Fr => format!("et {more} de plus"),
                Language::En => format!("and {more} more"),
            });
        }
        names.join(", ")
    }

    fn since(&self, alert: &Alert, lead: &Lead, over: bool, language: Language) -> String {
        let since = self.desk.members.get(&alert.id).into_iter().flatten().filter_map(|id| self.desk.alerts.get(id));
        let since = since.filter(|alert| over || alert.fires()).map(|alert| alert.opening.since).min();
        let since = since.unwrap_or(alert.opening.since);
        let from = self.clock(since);
        match (over, lead.over_at) {
            // The end was noted by the steady clock: what is shown is the wall's.
            (true, Some(end)) => {
                let end = self.clock(self.now.wall - self.now.steady.since(end));
                match language {
                    Language::Fr => format!("de {from} à {end}"),
                    Language::En => format!("from {from} to {end}"),
                }
            }
            _ => match language {
                Language::Fr => format!("depuis {from}"),
                Language::En => format!("since {from}"),
            },
        }
    }

    /// The time of day, with the date when it is not today's.
    fn clock(&self, at: Time) -> String {
        let (Some(local), Some(today)) = (self.zone.at(at), self.zone.at(self.now.wall)) else {
            return at.to_rfc3339();
        };
        let time = format!("{:02}:{:02}:{:02}", local.hour, local.minute, local.second);
        if (local.year, local.month, local.day) == (today.year, today.month, today.day) {
            return time;
        }
        format!("{:04}-{:02}-{:02} {time}", local.year, local.month, local.day)
    }

    fn lines(
        &self,
        alert: &Alert,
        lead: &Lead,
        thread: &LetterThread,
        headline: &str,
        language: Language,
    ) -> Vec<String> {
        let opening = &self.shown(alert, thread.over).opening;
        let c = colon(language);
        let since = self.since(alert, lead, thread.over, language);
        let zone = self.zone.name();
        let mut lines = vec![match (thread.what, language) {
            (What::Resolved, Language::Fr) if alert.gone => {
                format!(
                    "La politique ne le surveille plus{c} {headline}, {since} ({zone}). Ce qu’il en est n’est pas connu."
                )
            }
            (What::Resolved, Language::En) if alert.gone => {
                format!("The policy no longer watches it: {headline}, {since} ({zone}). How it is now is not known.")
            }
            (What::Resolved, Language::Fr) => format!("Terminé{c} {headline}, {since} ({zone})."),
            (What::Resolved, Language::En) => format!("Over: {headline}, {since} ({zone})."),
            (What::Reminder, Language::Fr) => format!("Toujours en cours{c} {headline}, {since} ({zone})."),
            (What::Reminder, Language::En) => format!("Still: {headline}, {since} ({zone})."),
            (What::Update, Language::Fr) => format!("Étendue mise à jour{c} {headline}, {since} ({zone})."),
            (What::Update, Language::En) => format!("The scope has changed: {headline}, {since} ({zone})."),
            _ => format!("{headline}, {since} ({zone})."),
        }];
        if alert.flapping && thread.what != What::Resolved {
            lines.push(
                say(
                    language,
                    "L’état change sans cesse : le message suivant viendra quand il sera stable depuis dix minutes.",
                    "Its state changes all the time: the next message comes once it has been stable for ten minutes.",
                )
                .to_owned(),
            );
        }
        lines.push(String::new());
        let detail = match language {
            Language::Fr if !opening.detail_fr.is_empty() => &opening.detail_fr,
            _ => &opening.detail,
        };
        if !detail.is_empty() {
            lines.push(format!(
                "{}{c} {}",
                say(language, "Constaté", "Seen"),
                cut(&self.zone.of_text(detail), DETAIL_MAX)
            ));
        }
        if let Some(url) = &opening.url {
            lines.push(format!("{}{c} {url}", say(language, "Voir", "See")));
        }
        if let Some(cause) = lead.cause.and_then(|cause| self.desk.alerts.get(&cause)).filter(|cause| cause.fires()) {
            let title = pick(&cause.opening.title, language);
            lines.push(format!("{}{c} {title}", say(language, "Cause probable", "Likely cause")));
        }
        let joined = usize::try_from(thread.joined).unwrap_or(usize::MAX);
        let others: Vec<&str> =
            self.others(alert, joined).take(NAMES_MAX).map(|it| pick(&it.opening.title, language).as_str()).collect();
        if !others.is_empty() {
            lines.push(format!("{}{c} {}", say(language, "Aussi", "Also"), others.join(" ; ")));
        }
        {
            let scope = self.desk.scope_now(alert.id);
            if joined > 1 && !scope.services.is_empty() {
                lines.push(format!("Services{c} {}", self.names(alert.id, language)));
            }
            if !scope.hosts.is_empty() {
                let hosts: Vec<&str> = scope.hosts.iter().take(NAMES_MAX).map(event::HostId::as_str).collect();
                let more = scope.hosts.len().saturating_sub(hosts.len());
                let more = if more > 0 { format!(" (+ {more})") } else { String::new() };
                lines.push(format!("{}{c} {}{more}", say(language, "Hôtes", "Hosts"), hosts.join(", ")));
            }
            if let Some(region) = scope.region() {
                lines.push(format!("{}{c} {region}", say(language, "Région", "Region")));
            }
        }
        if thread.what == What::Resolved {
            if let Some(broken) = self.broken_promises(alert, language) {
                lines.push(broken);
            }
            return trimmed(lines);
        }
        if let Some(acknowledged) = &lead.acknowledged {
            let (by, at) = (&acknowledged.by, self.clock(acknowledged.at));
            lines.push(match language {
                Language::Fr => format!("Pris en charge par {by} à {at}."),
                Language::En => format!("Acknowledged by {by} at {at}."),
            });
        } else {
            let by = self.desk.name_of(&thread.key.person).map(|name| format!(" --by {}", argument(name)));
            let by = by.unwrap_or_default();
            lines.push(match language {
                Language::Fr => format!("Pour prendre en charge{c} garant alert ack {}{by}", alert.id),
                Language::En => format!("To take it on: garant alert ack {}{by}", alert.id),
            });
        }
        trimmed(lines)
    }

    /// The promises about services of this group that are broken, which nobody was told of while it fired.
    fn broken_promises(&self, alert: &Alert, language: Language) -> Option<String> {
        let services = &self.desk.scope_now(alert.id).services;
        let broken = self.desk.alerts.values().filter(|other| {
            other.fires() && other.opening.source == Source::Promise && !other.opening.services.is_disjoint(services)
        });
        let titles: Vec<&str> =
            broken.take(NAMES_MAX).map(|other| pick(&other.opening.title, language).as_str()).collect();
        (!titles.is_empty()).then(|| titles.join(" ; "))
    }

    fn digest(&self, threads: &[LetterThread], language: Language) -> Option<Message> {
        let first = threads.first()?;
        let c = colon(language);
        let mut severity = Severity::Info;
        let mut lines = Vec::new();
        let (mut firing, mut over) = (0_usize, 0_usize);
        let mut fields = Vec::new();
        for (place, thread) in threads.iter().enumerate() {
            let Some(alert) = self.desk.alerts.get(&thread.key.alert) else { continue };
            let Some(lead) = alert.lead.as_ref() else { continue };
            if thread.over {
                over += 1;
            } else {
                firing += 1;
            }
            if !thread.over {
                severity = severity.max(lead.severity);
            }
            if place < LISTED_MAX {
                let mark = if thread.over {
                    say(language, "résolu", "resolved")
                } else {
                    severity_word(lead.severity, language)
                };
                let headline = self.headline(alert, thread, language);
                lines.push(
                    format!(
                        "- [{mark}] {headline}, {} (n° {})",
                        self.since(alert, lead, thread.over, language),
                        alert.id
                    )
                    .replace("n° ", say(language, "n° ", "no. ")),
                );
                fields.push(self.fields(alert, lead, thread));
            }
        }
        if let Some(more) = threads.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
            lines.push(match language {
                Language::Fr => format!("- et {more} de plus : garant alerts"),
                Language::En => format!("- and {more} more: garant alerts"),
            });
        }
        let headline = match language {
            Language::Fr => format!("{} en cours, {} terminées", counted(firing, "alerte", "alertes", language), over),
            Language::En => format!("{} firing, {} over", counted(firing, "alert", "alerts", language), over),
        };
        let first_line = self
            .desk
            .alerts
            .get(&first.key.alert)
            .map(|alert| self.headline(alert, first, language))
            .unwrap_or_default();
        let mark = if firing > 0 { severity_word(severity, language) } else { say(language, "résolu", "resolved") };
        let text = format!("{headline}{c}\n\n{}", lines.join("\n"));
        // One that fires, among others that are over, is taken on as ever.
        let mut open = threads.iter().filter(|thread| !thread.over);
        let link = match (open.next(), open.next()) {
            (Some(only), None) => {
                self.desk.alerts.get(&only.key.alert).and_then(|alert| self.link(only, alert, alert.lead.as_ref()?))
            }
            _ => None,
        };
        Some(Message {
            id: self.identifier(first),
            thread: self.thread(first.key.alert),
            what: What::Digest,
            severity,
            language,
            subject: cut(&format!("[{mark}] {headline}{c} {first_line}"), SUBJECT_MAX),
            short: format!("{headline}{c} {first_line}"),
            text,
            link,
            runbook: None,
            fields: json!({ "what": "digest", "alerts": fields }),
            receipt: self.receipt(first),
        })
    }

    /// The alert for programs.
    fn fields(&self, alert: &Alert, lead: &Lead, thread: &LetterThread) -> serde_json::Value {
        let mut fields = crate::view::alert(self.desk, alert, self.now);
        if let Some(fields) = fields.as_object_mut() {
            fields.remove("notified");
            fields.insert("what".to_owned(), json!(thread.what));
            fields.insert("severity".to_owned(), json!(lead.severity));
        }
        fields
    }

    /// What a receipt for this message is known by; of several threads, the first one stands for all.
    fn receipt(&self, thread: &LetterThread) -> String {
        let count = self.desk.threads.get(&thread.key).map_or(0, |thread| thread.count);
        Use::Receipt.path(&self.desk.memory.link_key, &thread.key, count)
    }

    /// The one-time link of this message, by which its receiver takes the alert on.
    fn link(&self, thread: &LetterThread, alert: &Alert, lead: &Lead) -> Option<String> {
        if thread.over || lead.acknowledged.is_some() || alert.opening.source == Source::Hold {
            return None;
        }
        let count = self.desk.threads.get(&thread.key).map_or(0, |thread| thread.count);
        Some(format!("{}/a/{}", self.links?, Use::Acknowledge.path(&self.desk.memory.link_key, &thread.key, count)))
    }
}

/// The colon, with the space that French puts before it.
const fn colon(language: Language) -> &'static str {
    match language {
        Language::Fr => "\u{a0}:",
        Language::En => ":",
    }
}

const fn down(number: usize, language: Language) -> &'static str {
    match (language, number) {
        (Language::Fr, _) => "en panne",
        (Language::En, _) => "down",
    }
}

/// A name as a shell takes it.
fn argument(name: &str) -> String {
    if name.chars().all(|c| c.is_alphanumeric() || "-_.@".contains(c)) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', "'\\''"))
}

/// " of 10", where it is not all that there is.
fn share(part: usize, whole: usize, language: Language) -> String {
    if whole <= part {
        return String::new();
    }
    format!(" {} {whole}", say(language, "sur", "of"))
}

fn trimmed(mut lines: Vec<String>) -> Vec<String> {
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}
