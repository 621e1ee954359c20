//! Messages of a probe.

use bytes::Bytes;
use datacenter::printable::line_of;
use datacenter::wire::WireError;
use prost::Message;

use super::proto;

/// Behind the dialer's hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeRequest {
    /// How many bytes it would like to send, and get back.
    pub bytes: u64,
    /// Whether the other side should try to reach the dialer's server where it knows it.
    pub call_back: bool,
}

/// Behind the accepting side's hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The sender's clock, in milliseconds since 1970.
    pub unix_millis: u64,
    /// Whether it has a link to the dialer's server at present.
    pub linked: bool,
    /// How many bytes each side may send at most.
    pub granted_bytes: u64,
}

/// When the bursts are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// Bytes that arrived in the later half of the dialer's burst.
    pub bytes: u64,
    /// And in how many microseconds.
    pub micros: u64,
    /// What came of the call back.
    pub call_back: CallBack,
}

/// Whether the dialer's server could be reached from the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallBack {
    /// Nobody asked.
    #[default]
    NotTried,
    /// It is not known there where the dialer's server is.
    NoAddress,
    /// It answered.
    Reached,
    /// It did not, for this reason.
    Failed(String),
}

/// Encodes a request.
pub fn encode_probe_request(request: ProbeRequest) -> Bytes {
    let ProbeRequest { bytes, call_back } = request;
    proto::ProbeRequest { bytes, call_back }.encode_to_vec().into()
}

/// Decodes a request.
///
/// # Errors
///
/// If it is not what [`encode_probe_request`] makes.
pub fn decode_probe_request(frame: Bytes) -> Result<ProbeRequest, WireError> {
    let proto::ProbeRequest { bytes, call_back } = proto::ProbeRequest::decode(frame)?;
    Ok(ProbeRequest { bytes, call_back })
}

/// Encodes an answer.
pub fn encode_probe_answer(answer: ProbeAnswer) -> Bytes {
    let ProbeAnswer { unix_millis, linked, granted_bytes } = answer;
    proto::ProbeAnswer { unix_millis, linked, granted_bytes }.encode_to_vec().into()
}

/// Decodes an answer.
///
/// # Errors
///
/// If it is not what [`encode_probe_answer`] makes.
pub fn decode_probe_answer(frame: Bytes) -> Result<ProbeAnswer, WireError> {
    let proto::ProbeAnswer { unix_millis, linked, granted_bytes } = proto::ProbeAnswer::decode(frame)?;
    Ok(ProbeAnswer { unix_millis, linked, granted_bytes })
}

/// Encodes a report.
pub fn encode_probe_report(report: &ProbeReport) -> Bytes {
    let (call_back, problem) = match &report.call_back {
        CallBack::NotTried => (proto::CallBack::Unspecified, ""),
        CallBack::NoAddress => (proto::CallBack::NoAddress, ""),
        CallBack::Reached => (proto::CallBack::Reached, ""),
        CallBack::Failed(problem) => (proto::CallBack::Failed, problem.as_str()),
    };
    let ProbeReport { bytes, micros, .. } = *report;
    proto::ProbeReport { bytes, micros, call_back: call_back.into(), problem: problem.to_owned() }
        .encode_to_vec()
        .into()
}

/// Decodes a report.
///
/// # Errors
///
/// If it is not what [`encode_probe_report`] makes.
pub fn decode_probe_report(frame: Bytes) -> Result<ProbeReport, WireError> {
    let report = proto::ProbeReport::decode(frame)?;
    let call_back = match report.call_back() {
        proto::CallBack::Unspecified => CallBack::NotTried,
        proto::CallBack::NoAddress => CallBack::NoAddress,
        proto::CallBack::Reached => CallBack::Reached,
        proto::CallBack::Failed => CallBack::Failed(line_of(report.problem)),
    };
    Ok(ProbeReport { bytes: report.bytes, micros: report.micros, call_back })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(frame: &Bytes) -> String {
        frame.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn messages_of_a_probe_survive_the_wire() {
        let request = ProbeRequest { bytes: 300, call_back: true };
        let frame = encode_probe_request(request);
        assert_eq!(hex(&frame), "08ac021001");
        assert_eq!(decode_probe_request(frame).unwrap(), request);
        let answer = ProbeAnswer { unix_millis: 1, linked: true, granted_bytes: 300 };
        let frame = encode_probe_answer(answer);
        assert_eq!(hex(&frame), "0801100118ac02");
        assert_eq!(decode_probe_answer(frame).unwrap(), answer);
        for (call_back, expected) in [
            (CallBack::NotTried, "0801100a"),
            (CallBack::NoAddress, "0801100a1801"),
            (CallBack::Reached, "0801100a1802"),
            (CallBack::Failed("x".to_owned()), "0801100a1803220178"),
        ] {
            let report = ProbeReport { bytes: 1, micros: 10, call_back };
            let frame = encode_probe_report(&report);
            assert_eq!(hex(&frame), expected);
            assert_eq!(decode_probe_report(frame).unwrap(), report);
        }
    }
}
