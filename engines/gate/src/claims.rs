//! Fields by which a request would say who its client is, how it came, or what it asked for before somebody rewrote it.
//!
//! Programs believe such fields because a proxy in front sets them, and a proxy that lets one through lets anybody be anybody. The gate
//! says anew what it knows itself, and drops these names and families, whether or not a program behind is known to read them:
//! - addresses: Forwarded (RFC 7239), `X-Forwarded-*`, `X-Real-*`, `X-Client-IP`… (`WordPress` plugins, Laravel, Symfony, Rails, Django,
//!   Spring, Tomcat's `RemoteIpValve`), `WL-Proxy-*` and `$WS*` (plug-ins of `WebLogic` and `WebSphere`), and those of networks in
//!   front: Cloudflare, Akamai, Fastly, Fly, Azure, `CloudFront`, App Engine, Imperva, Sucuri, Vercel, Netlify, Alibaba, `DigitalOcean`;
//! - TLS and certificates of clients: `Client-Cert` (RFC 9440), `X-SSL-*`, `X-ARR-*` (IIS), `Front-End-Https`, `X-Amzn-Mtls-*`;
//! - names of users that a proxy has authenticated: `Remote-*`, `X-Remote-*`, `X-WEBAUTH-*`, `X-Auth-Request-*`, `X-authentik-*`,
//!   `X-User`, `X-User-Id`, `X-Auth-Username`, `OIDC-*`, `Shib-*`, `X-MS-CLIENT-PRINCIPAL*`, `X-Amzn-Oidc-*`, `X-Goog-*`, and those of
//!   Kong and WSO2;
//! - hosts, schemes and paths before a rewrite: `X-Host`, `X-Scheme`, `X-Original-*`, `X-Rewrite-*`, `X-Override-URL`, `X-Script-Name`.
//!
//! What a client proves itself by stays: `Authorization`, `Cookie`, and keys that an application gives out (`X-API-Key`,
//! `X-Auth-Token`, `X-CSRF-Token`); so does `X-Auth-User`, which `OpenStack` takes with `X-Auth-Key`.

use std::cmp::Ordering;

/// In small letters, sorted by their names; `*` at the end stands for a family. No name is of two.
const CLAIMS: &[&str] = &[
    "$ws*",
    "akamai-*",
    "ali-cdn-*",
    "cdn-client-ip",
    "cdn-real-ip",
    "cdn-src-ip",
    "cf-*",
    "client-cert*",
    "client-ip*",
    "clientip",
    "cloudfront-*",
    "coming-from",
    "do-connecting-ip",
    "ec-client-ip",
    "fastly-*",
    "fly-*",
    "forwarded*",
    "front-end-https",
    "http-client-ip",
    "http-x-forwarded*",
    "https",
    "incap-*",
    "iv-creds",
    "iv-groups",
    "iv-remote-address",
    "iv-user",
    "mellon-*",
    "oam-remote-user",
    "oidc-*",
    "oxy-connecting-ip",
    "proxy*",
    "remote-*",
    "shib-*",
    "sm-user*",
    "ssl-*",
    "tailscale-*",
    "true-client*",
    "wl-proxy-*",
    "x-akamai-*",
    "x-amzn-mtls-*",
    "x-amzn-oidc-*",
    "x-amzn-tls-*",
    "x-anonymous-consumer",
    "x-apigateway-api-userinfo",
    "x-appengine-*",
    "x-arr-*",
    "x-auth-email",
    "x-auth-group*",
    "x-auth-name",
    "x-auth-preferred-username",
    "x-auth-request-*",
    "x-auth-role*",
    "x-auth-user-*",
    "x-auth-userid",
    "x-auth-username",
    "x-authelia-*",
    "x-authenticated-*",
    "x-authentik-*",
    "x-azure-*",
    "x-cdn-client-ip",
    "x-cdn-real-ip",
    "x-cdn-src-ip",
    "x-cert",
    "x-cert-*",
    "x-client-addr*",
    "x-client-cert*",
    "x-client-dn",
    "x-client-host",
    "x-client-i-dn",
    "x-client-ip*",
    "x-client-port",
    "x-client-proto*",
    "x-client-s-dn",
    "x-client-scheme",
    "x-client-ssl*",
    "x-client-tls*",
    "x-client-verif*",
    "x-clientcert*",
    "x-clientip",
    "x-cluster-client-ip",
    "x-coming-from",
    "x-connecting-ip",
    "x-consumer-*",
    "x-credential-*",
    "x-edge-client-ip",
    "x-endpoint-api-userinfo",
    "x-envoy-*",
    "x-forward-*",
    "x-forwarded*",
    "x-goog-authenticated-user-*",
    "x-goog-iap-*",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-https",
    "x-iap-*",
    "x-incap-*",
    "x-ip",
    "x-jwt-assertion",
    "x-kong-*",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-mtls-*",
    "x-nf-*",
    "x-nginx-proxy",
    "x-original-*",
    "x-originally-forwarded-for",
    "x-originating-*",
    "x-override-url",
    "x-peer-ip",
    "x-pomerium-*",
    "x-proto",
    "x-proxyuser-ip",
    "x-real-*",
    "x-remote-*",
    "x-rewrite-*",
    "x-scheme",
    "x-script-name",
    "x-shib-*",
    "x-source-ip",
    "x-ssl",
    "x-ssl-*",
    "x-sso-*",
    "x-subject-dn",
    "x-sucuri-*",
    "x-tailscale-*",
    "x-tls-*",
    "x-true-client-ip",
    "x-true-ip",
    "x-url-scheme",
    "x-user",
    "x-user-dn",
    "x-user-email",
    "x-user-group*",
    "x-user-id",
    "x-user-name",
    "x-user-role*",
    "x-userid",
    "x-userinfo",
    "x-username",
    "x-vercel-*",
    "x-vouch-*",
    "x-webauth-*",
];

/// The names that an entry stands for begin with this, or are this.
fn stem(entry: &str) -> &str {
    entry.strip_suffix('*').unwrap_or(entry)
}

/// Whether a field is one of them, in any case of letters.
pub(crate) fn is_claim(name: &[u8]) -> bool {
    let letters = || name.iter().map(u8::to_ascii_lowercase);
    // Names that begin with the stem of a family come right behind it: the last entry that is not behind the name decides.
    let following = CLAIMS.partition_point(|entry| stem(entry).bytes().cmp(letters()) != Ordering::Greater);
    let Some(entry) = following.checked_sub(1).and_then(|last| CLAIMS.get(last)) else { return false };
    let stem = stem(entry);
    letters().take(stem.len()).eq(stem.bytes()) && (stem.len() == name.len() || stem.len() < entry.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_no_name_is_of_two() {
        for pair in CLAIMS.windows(2) {
            let [one, other] = pair else { unreachable!("windows of two") };
            assert!(stem(one) < stem(other), "{one} {other}");
            assert!(!one.ends_with('*') || !other.starts_with(stem(one)), "{other} is of {one}");
            assert!(one.bytes().all(|byte| byte.is_ascii_lowercase() || b"-*$".contains(&byte)), "{one}");
        }
    }

    /// Every entry, and every name that the documentation of a framework, a server or a network in front has.
    #[test]
    fn whoever_says_who_a_client_is_is_not_believed() {
        let named = "Forwarded Forwarded-For Forwarded-Proto X-Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto \
            X-Forwarded-Protocol X-Forwarded-Port X-Forwarded-Scheme X-Forwarded-Ssl X-Forwarded-Prefix X-Forwarded-Path \
            X-Forwarded-Uri X-Forwarded-By X-Forwarded-Server X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups \
            X-Forwarded-Preferred-Username X-Forwarded-Access-Token X-Forwarded-Client-Cert X-Forwarded-Tls-Client-Cert \
            X-Forwarded-AWS-Original-Request X-Original-Forwarded-For X-Original-Remote-Addr X-Original-Proto X-Original-Host \
            X-Original-URL X-Original-URI X-Original-Method X-Rewrite-URL X-Originating-IP X-Real-IP X-Real-Port X-Real-Host \
            X-Client-IP X-ClientIP Client-IP X-Cluster-Client-IP X-Remote-IP X-Remote-Addr Remote-Addr X-ProxyUser-Ip \
            Proxy-Client-IP WL-Proxy-Client-IP WL-Proxy-SSL WL-Proxy-Client-Cert WL-Proxy-Client-Keysize $WSRA $WSSC $WSPR True-Client-IP \
            X-True-Client-IP CF-Connecting-IP CF-Connecting-IPv6 CF-Pseudo-IPv4 CF-IPCountry CF-Visitor CF-Access-Jwt-Assertion \
            Cf-Access-Authenticated-User-Email Akamai-Origin-Hop X-Akamai-Edgescape Fastly-Client-IP Fastly-SSL Fastly-FF \
            Fastly-Client Fly-Client-IP Fly-Forwarded-Proto Fly-Region X-Azure-ClientIP X-Azure-SocketIP X-Azure-FDID \
            X-AppEngine-User-IP X-AppEngine-Remote-Addr X-AppEngine-Country X-AppEngine-Cron X-AppEngine-QueueName Incap-Client-IP \
            X-Sucuri-ClientIP X-Sucuri-Country Ali-CDN-Real-IP Cdn-Src-Ip Cdn-Real-Ip X-Vercel-Forwarded-For X-Vercel-IP-Country \
            X-Nf-Client-Connection-Ip DO-Connecting-IP Oxy-Connecting-IP CloudFront-Viewer-Address CloudFront-Forwarded-Proto \
            CloudFront-Viewer-Country X-Envoy-External-Address X-Envoy-Internal X-Envoy-Original-Path X-Coming-From Coming-From Proxy \
            Proxy-Remote-User Front-End-Https X-Https Https X-Scheme X-Url-Scheme X-Proto X-SSL X-Host X-Http-Host-Override X-Host-Override \
            X-Http-Destinationurl X-Script-Name X-Nginx-Proxy Remote-User Remote-Groups Remote-Name Remote-Email X-Remote-User \
            X-Remote-Group X-Remote-Extra-Scopes X-Auth-Request-User X-Auth-Request-Email X-Authenticated-User X-Authenticated-Userid \
            X-WEBAUTH-USER X-WEBAUTH-ROLE X-Consumer-ID X-Consumer-Username X-Credential-Identifier X-Userinfo X-Vouch-User \
            X-Pomerium-Jwt-Assertion Tailscale-User-Login OIDC-CLAIM-sub Mellon-Name-Id Shib-Session-ID X-Shib-User SM-User SM-UserDN \
            IV-User IV-Groups IV-Creds OAM-Remote-User X-MS-CLIENT-PRINCIPAL X-MS-CLIENT-PRINCIPAL-NAME X-MS-TOKEN-AAD-ID-TOKEN \
            X-Amzn-Oidc-Identity X-Amzn-Oidc-Data X-Amzn-Mtls-Clientcert X-Amzn-Mtls-Clientcert-Subject X-Amzn-Tls-Version \
            X-Goog-Authenticated-User-Email X-Goog-IAP-JWT-Assertion X-Endpoint-API-UserInfo X-Apigateway-Api-Userinfo Client-Cert \
            Client-Cert-Chain SSL-Client-Cert Ssl-Client-Verify X-SSL-Client-Cert X-SSL-Client-Verify X-SSL-Client-DN X-SSL-Client-S-DN \
            X-SSL-Cert X-SSL-Cipher X-Client-Cert X-Client-Verify X-Client-Verified X-Client-DN X-ClientCert X-ARR-ClientCert X-ARR-SSL \
            X-ARR-LOG-ID X-TLS-Version X-Mtls-Subject X-Client-Proto X-Client-SSL X-Client-Port X-Client-Host \
            X-authentik-username X-authentik-groups X-authentik-jwt X-Authelia-User X-Auth-Username X-Auth-Userid X-Auth-User-Id \
            X-Auth-Email X-Auth-Groups X-Auth-Name X-Auth-Roles X-Auth-Preferred-Username X-Anonymous-Consumer X-Credential-Username \
            X-IAP-User X-SSO-User X-User X-Username X-Userid X-User-Id X-User-Name X-User-Email X-User-Roles X-User-Groups X-User-DN \
            X-Client-S-DN X-Client-I-DN X-Forward-For X-Forward-Proto X-Connecting-IP X-Cdn-Src-Ip X-Cdn-Real-Ip X-Cdn-Client-Ip \
            X-Edge-Client-IP EC-Client-IP X-Override-URL X-Kong-Upstream-Latency X-JWT-Assertion X-Subject-DN X-Cert \
            X-Tailscale-User X-WebAuth-Email";
        let stems = CLAIMS.iter().map(|entry| stem(entry).to_owned());
        let families = CLAIMS.iter().filter(|entry| entry.ends_with('*')).map(|entry| format!("{}X", stem(entry)));
        for name in named.split_whitespace().map(ToOwned::to_owned).chain(stems).chain(families) {
            for name in [name.to_ascii_lowercase(), name.to_ascii_uppercase(), name.clone()] {
                assert!(is_claim(name.as_bytes()), "{name}");
            }
        }
    }

    /// What a client proves itself by, and what it says of itself alone, goes on.
    #[test]
    fn what_an_application_is_told_goes_on() {
        for name in "Authorization Cookie Host Accept Accept-Language User-Agent Referer Origin Range If-None-Match Cache-Control \
            Content-Type Content-Length Sec-Fetch-Site Sec-WebSocket-Key Sec-CH-UA X-Requested-With X-CSRF-Token X-XSRF-TOKEN \
            X-Auth-Token X-Auth-Key X-Auth-User X-API-Key X-Client-Version X-Client-Info X-Client-Data X-HTTP-Method-Override \
            X-Request-ID X-Correlation-ID Traceparent X-Amzn-Trace-Id X-Cloud-Trace-Context X-Hub-Signature-256 X-GitHub-Event \
            X-Livewire X-Inertia HX-Request Stripe-Signature Client Idempotency-Key CDN-Loop Via X-Hostname X-Schemes X-Sslx Destination \
            X-User-Agent X-Userland X-Forwards X-CDN-Secret X-Certificate-Pin X-Connection-Id \
            DNT Priority Save-Data Upgrade-Insecure-Requests X-Do-Not-Track Translate X"
            .split_whitespace()
        {
            assert!(!is_claim(name.as_bytes()), "{name}");
        }
        assert!(!is_claim(b"") && !is_claim(b"a") && !is_claim(b"zz"));
    }
}
