//! How errors are told to people.
//!
//! Kind: time-free.

use std::error::Error;
use std::io;

use crate::printable;

/// An error and its causes, in one line unless the error itself has several; what a message has of
/// its cause already is not said twice.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let text = causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    });
    // Libraries quote what they were given.
    printable::lines(&text).into_owned()
}

/// How a connection to another process broke, in an operator's words. Whoever tells it has the
/// error itself for those who look into our own workings.
pub fn of_connection(error: &io::Error) -> String {
    use io::ErrorKind;
    let said = match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there: the process does not run, or runs elsewhere",
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => BROKE_OFF,
        ErrorKind::TimedOut => {
            "nothing came back for too long: its machine is down, or the network between is"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            "the network knows no way there"
        }
        // What the codec of frames says of a connection that ends inside of one; it has no kind of
        // its own.
        ErrorKind::Other if error.to_string() == "bytes remaining on stream" => BROKE_OFF,
        ErrorKind::InvalidData if error.to_string() == "frame size too big" => {
            "it sent a frame that is longer than any may be"
        }
        _ => return printable::line(&error.to_string()).into_owned(),
    };
    said.to_owned()
}

const BROKE_OFF: &str = "the connection broke off without a word: the process at its other end was killed, or its machine \
                         or the network between went down";

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no model")]
    struct Failed(#[source] io::Error);

    #[test]
    fn causes_cannot_forge_what_is_shown() {
        let error = Failed(io::Error::other("no key 'a\u{1b}[2Jb\u{202e}c'"));
        assert_eq!(with_causes(&error), "no model: no key 'a\\u{1b}[2Jb\\u{202e}c'");
    }

    #[test]
    fn a_connection_that_broke_is_told_without_the_library_s_words() {
        let rustls =
            "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/x";
        for error in [
            io::Error::new(io::ErrorKind::UnexpectedEof, rustls),
            io::Error::from_raw_os_error(104),
            io::Error::from_raw_os_error(32),
            io::Error::other("bytes remaining on stream"),
        ] {
            let told = of_connection(&error);
            assert_eq!(told, BROKE_OFF, "{error}");
            assert!(!told.contains("os error") && !told.contains("http"), "{told}");
        }
        assert!(of_connection(&io::Error::from_raw_os_error(111)).starts_with("nobody listens there"));
        let other = of_connection(&io::Error::other("x\ny"));
        assert_eq!(other, "x\\ny");
    }
}
