//! Labelled tab-separated values: `time:…<TAB>method:GET<TAB>uri:/path<TAB>status:200<TAB>reqtime:0.057`.
//!
//! Decides which labels matter, after ltsv.org's recommendations: `time`; `method` and `uri`, else `req`, a whole request
//! line; `status`; `service`, else `vhost`; `trace_id`, else `traceparent`. The response time is the first of these that
//! holds a number: `reqtime` (seconds, the whole request), `reqtime_microsec` (microseconds), `taken_sec` (seconds),
//! `apptime` (seconds, the application's part, a list where nginx tried several). All others are passed over: `host` in
//! particular is the client.
//!
//! A field without a label rejects the line, and so does one of these labels given twice: a tab has slipped into a value.

use std::borrow::Cow;

use super::{InvalidLine, LogLine, duration, excerpt, is_absent, request, status, timestamp, trace_of};

/// The values of the labels that matter, as written; `-` and nothing count as absent.
#[derive(Default)]
struct Labelled<'a> {
    time: Option<&'a str>,
    req: Option<&'a str>,
    method: Option<&'a str>,
    uri: Option<&'a str>,
    status: Option<&'a str>,
    reqtime: Option<&'a str>,
    reqtime_microsec: Option<&'a str>,
    taken_sec: Option<&'a str>,
    apptime: Option<&'a str>,
    service: Option<&'a str>,
    vhost: Option<&'a str>,
    trace_id: Option<&'a str>,
    traceparent: Option<&'a str>,
}

impl<'a> Labelled<'a> {
    fn read(line: &'a str) -> Result<Self, InvalidLine> {
        let mut labelled = Self::default();
        for (field, number) in line.split('\t').zip(1..) {
            if field.is_empty() {
                continue;
            }
            let Some((label, value)) = field.split_once(':') else {
                return Err(InvalidLine::NoLabel { number, found: excerpt(field) });
            };
            let slot = match label {
                "time" => &mut labelled.time,
                "req" => &mut labelled.req,
                "method" => &mut labelled.method,
                "uri" => &mut labelled.uri,
                "status" => &mut labelled.status,
                "reqtime" => &mut labelled.reqtime,
                "reqtime_microsec" => &mut labelled.reqtime_microsec,
                "taken_sec" => &mut labelled.taken_sec,
                "apptime" => &mut labelled.apptime,
                "service" => &mut labelled.service,
                "vhost" => &mut labelled.vhost,
                "trace_id" => &mut labelled.trace_id,
                "traceparent" => &mut labelled.traceparent,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(InvalidLine::GivenTwice { field: format!("the label `{label}`") });
            }
        }
        Ok(labelled)
    }

    /// Method and target, from their own labels or else from the request line.
    fn request(&self) -> Result<(&'a str, &'a str), InvalidLine> {
        let method = self.method.filter(|text| !is_absent(text));
        let uri = self.uri.filter(|text| !is_absent(text));
        match (method, uri, self.req) {
            (Some(method), Some(uri), _) => {
                if request::is_method(method) && request::is_target(uri) {
                    Ok((method, uri))
                } else {
                    Err(InvalidLine::InvalidRequest { found: excerpt(&format!("{method} {uri}")) })
                }
            }
            (_, _, Some(line)) => request::split(line),
            (None, None, None) if self.method.or(self.uri).is_some() => Err(InvalidLine::NoRequest),
            (None, _, None) => Err(InvalidLine::Missing { part: "method (labels `method`, `req`)" }),
            (Some(_), None, None) => Err(InvalidLine::Missing { part: "path (labels `uri`, `req`)" }),
        }
    }

    /// The response time in milliseconds.
    fn response_time(&self) -> Result<Option<f64>, InvalidLine> {
        if let Some(whole) = duration::seconds("`reqtime`", self.reqtime.unwrap_or_default())? {
            return Ok(Some(whole));
        }
        let microseconds = self.reqtime_microsec.unwrap_or_default();
        if let Some(whole) = duration::fine("`reqtime_microsec`", microseconds, 1e3)? {
            return Ok(Some(whole));
        }
        if let Some(whole) = duration::seconds("`taken_sec`", self.taken_sec.unwrap_or_default())? {
            return Ok(Some(whole));
        }
        duration::seconds("`apptime`", self.apptime.unwrap_or_default())
    }
}

/// Reads one line, without its end and not empty.
pub(super) fn parse(line: &str) -> Result<LogLine<'_>, InvalidLine> {
    let labelled = Labelled::read(line)?;
    let time = labelled.time.ok_or(InvalidLine::Missing { part: "time (label `time`)" })?;
    let (method, target) = labelled.request()?;
    let status_text = labelled.status.ok_or(InvalidLine::Missing { part: "status (label `status`)" })?;
    Ok(LogLine {
        timestamp: timestamp::parse(time)?,
        service: [labelled.service, labelled.vhost]
            .into_iter()
            .flatten()
            .find(|text| !is_absent(text))
            .map(Cow::Borrowed),
        method: Cow::Borrowed(method),
        path: request::decode(target),
        status: status(status_text)?,
        response_time_ms: labelled.response_time()?,
        trace_id: labelled
            .trace_id
            .filter(|text| !is_absent(text))
            .or_else(|| labelled.traceparent.and_then(trace_of))
            .map(Cow::Borrowed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "time:2026-11-02T08:15:01Z\tmethod:GET\turi:/a\tstatus:200";

    fn time(fields: &str) -> Result<Option<f64>, InvalidLine> {
        parse(&format!("{LINE}\t{fields}")).map(|line| line.response_time_ms)
    }

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let mut fields: Vec<_> = LINE.split('\t').collect();
        fields.reverse();
        assert_eq!(parse(&fields.join("\t")), parse(LINE));
        assert!(parse(LINE).is_ok());
    }

    #[test]
    fn each_label_of_a_response_time_has_its_unit() {
        assert_eq!(time("reqtime:0.057"), Ok(Some(57.0)));
        assert_eq!(time("reqtime_microsec:57123"), Ok(Some(57.123)));
        assert_eq!(time("taken_sec:2"), Ok(Some(2000.0)));
        assert_eq!(time("apptime:0.100, 0.004"), Ok(Some(104.0)));
        assert_eq!(time("ua:none"), Ok(None));
    }

    #[test]
    fn the_whole_request_counts_before_the_applications_part() {
        assert_eq!(time("apptime:0.050\treqtime:0.057"), Ok(Some(57.0)));
        assert_eq!(time("apptime:0.050\treqtime:-"), Ok(Some(50.0)));
    }

    #[test]
    fn a_response_time_that_is_none_rejects_the_line() {
        assert!(matches!(time("apptime:-1"), Err(InvalidLine::NegativeTime { .. })));
        assert!(matches!(time("apptime:fast"), Err(InvalidLine::InvalidTime { .. })));
    }

    #[test]
    fn service_and_trace_are_read_where_they_are_named() {
        let line = format!(
            "{LINE}\thost:203.0.113.7\tvhost:shop.example\ttraceparent:00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        );
        let line = parse(&line).unwrap();
        assert_eq!(line.service.as_deref(), Some("shop.example"));
        assert_eq!(line.trace_id.as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    }

    #[test]
    fn a_tab_that_slipped_into_a_value_rejects_the_line() {
        assert!(matches!(time("ua:a\tb"), Err(InvalidLine::NoLabel { number: 6, .. })));
        assert!(matches!(time("ua:a\tstatus:500"), Err(InvalidLine::GivenTwice { .. })));
    }

    #[test]
    fn a_missing_part_is_named() {
        for label in ["time", "method", "uri", "status"] {
            let rest: Vec<_> = LINE.split('\t').filter(|f| !f.starts_with(label)).collect();
            assert!(matches!(parse(&rest.join("\t")), Err(InvalidLine::Missing { .. })), "{label}");
        }
    }

    #[test]
    fn a_connection_without_a_request_has_its_own_reason() {
        let line = LINE.replace("GET", "-").replace("/a", "-");
        assert_eq!(parse(&line), Err(InvalidLine::NoRequest));
        let line = LINE.replace("method:GET\turi:/a", "req:-");
        assert_eq!(parse(&line), Err(InvalidLine::NoRequest));
    }
}
