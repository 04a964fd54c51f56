//! Fetching the list of name servers over HTTP: `GET url`, whose answer is `host:port;host:port` on its first line.
//!
//! Java: `common/namesrv/DefaultTopAddressing.java`; the address there is `http://<domain>:8080/rocketmq/nsaddr`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Error;
use crate::deadline::Deadline;
use crate::name_server::parse_list;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024;
/// Java: `MixAll`, 3 s.
const LIMIT: Duration = Duration::from_secs(3);

/// The name servers that `url` names; at least one.
pub(crate) async fn fetch(url: &str) -> Result<Vec<Arc<str>>, Error> {
    let failed = |reason: String| Error::Discovery { url: url.to_owned(), reason };
    let target =
        Target::parse(url).ok_or_else(|| failed("not of the form http://host[:port][/path]".into()))?;
    let answer = match Deadline::after(LIMIT).run("fetching", get(&target)).await {
        Ok(answer) => answer.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("no answer within {LIMIT:?}"))),
    };
    let list: Vec<_> = parse_list(body(&answer).map_err(failed)?).collect();
    if list.is_empty() { Err(failed("the answer names no server".into())) } else { Ok(list) }
}

struct Target<'a> {
    authority: &'a str,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.find('/').map_or(Some((rest, "/")), |at| rest.split_at_checked(at))?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        (!authority.is_empty() && is_plain(authority) && is_plain(path)).then_some(Self { authority, path })
    }

    /// `host:port`.
    fn addr(&self) -> String {
        let host_end = self.authority.rfind(']').unwrap_or(0); // a colon before it is part of an IPv6 address
        let has_port = self.authority.get(host_end..).is_some_and(|rest| rest.contains(':'));
        if has_port { self.authority.to_owned() } else { format!("{}:80", self.authority) }
    }
}

/// HTTP/1.0, so that the answer ends where the connection does and has no chunks.
async fn get(target: &Target<'_>) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(target.addr()).await?;
    let Target { authority, path } = target;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// First line of the body of an answer with status 200.
fn body(answer: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "the answer is not text".to_owned())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer is no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("the answer is {status:?}"));
    }
    Ok(body.trim().lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[tokio::test]
    async fn the_first_line_of_the_answer_is_the_list() {
        let server = MockServer::start().await;
        let answer = ResponseTemplate::new(200).set_body_string("10.0.0.1:9876;10.0.0.2:9876\nignored");
        Mock::given(method("GET")).and(path("/rocketmq/nsaddr")).respond_with(answer).mount(&server).await;
        let list = fetch(&format!("{}/rocketmq/nsaddr", server.uri())).await.unwrap();
        assert_eq!(list.iter().map(|addr| &**addr).collect::<Vec<_>>(), ["10.0.0.1:9876", "10.0.0.2:9876"]);
    }

    #[tokio::test]
    async fn whatever_goes_wrong_is_told_with_the_address() {
        let server = MockServer::start().await;
        Mock::given(path("/empty")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let uri = server.uri();
        for (url, reason) in [
            (format!("{uri}/none"), "404"),
            (format!("{uri}/empty"), "names no server"),
            ("https://host/".to_owned(), "not of the form"),
            ("http:///x".to_owned(), "not of the form"),
            ("http://127.0.0.1:1/".to_owned(), "refused"),
        ] {
            let error = fetch(&url).await.unwrap_err().to_string();
            assert!(error.contains(&url) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_port_is_added_where_none_is_given() {
        let addr = |url| Target::parse(url).unwrap().addr();
        assert_eq!(addr("http://host/x"), "host:80");
        assert_eq!(addr("http://host:8080"), "host:8080");
        assert_eq!(addr("http://[::1]/x"), "[::1]:80");
        assert_eq!(addr("http://[::1]:81/x"), "[::1]:81");
    }
}
