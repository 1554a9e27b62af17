//! Parameters of questions: B13 and the parameters' part of B14.

use reqwest::Method;

use super::Trial;
use super::texts::{INJECTIONS, schema};

/// Every question, with what it takes.
const QUESTIONS: [(&str, &[&str]); 6] = [
    (
        "/api/v1/endpoints/top",
        &[
            "by",
            "window",
            "from",
            "to",
            "tz",
            "limit",
            "service",
            "method",
            "route",
            "min_requests",
            "compare",
            "format",
        ],
    ),
    ("/api/v1/overview", &["window", "from", "to", "service", "method", "route"]),
    ("/api/v1/daily", &["window", "from", "to", "tz", "service", "method", "route", "endpoint_id", "limit", "format"]),
    ("/api/v1/endpoints/1", &["window", "from", "to"]),
    ("/api/v1/endpoints/1/series", &["window", "from", "to", "tz", "step"]),
    ("/api/v1/endpoints/1/requests", &["window", "from", "to", "by", "limit"]),
];

/// Values that are refused, by parameter; encoded as they stand in a URL.
fn refused(parameter: &str) -> Vec<String> {
    let fixed: &[&str] = match parameter {
        "limit" => {
            &["0", "-1", "1000000000", "abc", "%00", "", "1.5", "1e2", "0x10", "%20", "99999999999999999999", "10%27--"]
        }
        "min_requests" => &["-1", "abc", "1.5", "99999999999999999999", "", "%00"],
        "endpoint_id" => &["0", "-1", "abc", "2147483648", "%00", ""],
        "window" => &[
            "401d",
            "0m",
            "-1h",
            "1s",
            "9999999999999999999d",
            "9223372036854775807d",
            "d",
            "1",
            "abc",
            "",
            "1h%00",
            "24H",
            "%E2%82%AC",
        ],
        "from" => &[
            "abc",
            "",
            "%00",
            "2026-13-01",
            "2026-02-30",
            "2026-11-21T10:00:00",
            "99999-01-01",
            "0000-01-01",
            "-9999-01-01",
            "-9999-01-01&to=-9999-01-02",
            "%2B262142-12-30&to=%2B262142-12-31",
            "9223372036854775807",
            "-9223372036854775808",
            "2026-11-21T10:00:00Z%00",
        ],
        // With a good `from`, so that it is `to` that is wrong.
        "to" => &[
            "abc&from=2026-11-20",
            "&from=2026-11-20",
            "%00&from=2026-11-20",
            "2026-11-19&from=2026-11-20",
            "2026-11-20&from=2026-11-20",
            "2027-12-31&from=2026-11-20",
            "9998-12-31&from=0001-01-01",
            "300000-01-01&from=2026-11-20",
        ],
        "tz" => &[
            "",
            "%00",
            "Europe/Nowhere",
            "europe/berlin",
            "Europe/Berlin%20",
            "%2B01:00",
            "Z",
            "1",
            "../Europe/Berlin",
            "Europe/Berlin%00",
        ],
        "service" => &["", "%00", "a%0Ab", "%FF", "%C0%AF"],
        "method" => &["", "%00", "G%20T", "GET%0d%0a", "%FF"],
        "route" => &["%00", "%0a", "%1b%5b31m", "%FF"],
        "by" => &["", "%00", "REQUESTS", "name", "requests,errors", "1"],
        "step" => &["", "%00", "1s", "2h", "1D", "0"],
        "compare" => &["", "%00", "next", "true"],
        "format" => &["", "%00", "xml", "JSON"],
        other => panic!("{other} has no values"),
    };
    let mut values: Vec<String> = fixed.iter().map(|value| (*value).to_owned()).collect();
    match parameter {
        "service" => values.push("s".repeat(129)),
        "method" => values.push("M".repeat(33)),
        "route" => values.push("r".repeat(513)),
        _ => {}
    }
    values
}

/// Asks, and insists that the refusal names the parameter.
async fn refuses(trial: &Trial, path: &str, parameter: &str) {
    let told = trial.refuses(path, trial.app.request(Method::GET, path), 400, "invalid-parameter").await;
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("`{parameter}` ")), "{path}: {detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b13_a_wrong_parameter_is_named() {
    let trial = Trial::start().await;
    for (question, parameters) in QUESTIONS {
        for parameter in parameters {
            for value in refused(parameter) {
                refuses(&trial, &format!("{question}?{parameter}={value}"), parameter).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b13_a_parameter_is_known_and_given_once() {
    let trial = Trial::start().await;
    for (question, parameters) in QUESTIONS {
        for unknown in ["limitt", "LIMIT", "window%5B%5D", "", "order"] {
            let name = if unknown == "window%5B%5D" { "window[]" } else { unknown };
            refuses(&trial, &format!("{question}?{unknown}=10"), name).await;
        }
        for parameter in parameters {
            let twice = format!("{question}?{parameter}=10&{parameter}=1000");
            refuses(&trial, &twice, parameter).await;
        }
        refuses(&trial, &format!("{question}?window=1h&window=1h"), "window").await;
        refuses(&trial, &format!("{question}?window=1h&%77indow=2h"), "window").await;
        refuses(&trial, &format!("{question}?window=1h&from=2026-11-20"), "window").await;
        refuses(&trial, &format!("{question}?window=1h&to=2026-11-22"), "window").await;
        refuses(&trial, &format!("{question}?to=2026-11-22"), "from").await;
        // What another question takes is not known here.
        for (_, others) in QUESTIONS {
            for other in others.iter().filter(|other| !parameters.contains(other)) {
                refuses(&trial, &format!("{question}?{other}=1"), other).await;
            }
        }
    }
    for step in ["1m", "5m"] {
        refuses(&trial, &format!("/api/v1/endpoints/1/series?window=400d&step={step}"), "step").await;
    }
    for rest in ["", "/series", "/requests"] {
        for id in ["0", "-1", "abc", "1.5", "2147483648", "%00", "1%27", "top2"] {
            refuses(&trial, &format!("/api/v1/endpoints/{id}{rest}"), "id").await;
        }
        let path = format!("/api/v1/endpoints/2147483647{rest}");
        trial.refuses(&path, trial.app.request(Method::GET, &path), 404, "endpoint-not-found").await;
    }
    let path = "/api/v1/requests?token=1";
    let told = trial.refuses(path, trial.app.request(Method::POST, path).body("{}"), 400, "invalid-parameter").await;
    assert!(told["detail"].as_str().unwrap().contains("`token`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn b14_sql_in_a_parameter_is_text_or_refused() {
    let trial = Trial::start().await;
    let before = schema(&trial).await;
    for (question, parameters) in QUESTIONS {
        for injection in INJECTIONS {
            let encoded: String = url::form_urlencoded::byte_serialize(injection.as_bytes()).collect();
            for parameter in parameters {
                let path = format!("{question}?{parameter}={encoded}");
                match *parameter {
                    // Any text may be the name of a service or part of a route; none here has one like this.
                    "service" | "route" => {
                        let answer = trial.app.get(&path).await;
                        assert!(!answer.to_string().contains("/still/works"), "{path}: {answer}");
                    }
                    // A token of RFC 9110, so a method, though none that is registered.
                    "method" if injection == "$1" => {
                        let answer = trial.app.get(&path).await;
                        assert!(!answer.to_string().contains("/still/works"), "{path}: {answer}");
                    }
                    "to" => refuses(&trial, &format!("{path}&from=2026-11-20"), "to").await,
                    _ => refuses(&trial, &path, parameter).await,
                }
            }
            let path = format!("/api/v1/endpoints/{}", encoded.replace('+', "%20").replace('/', "%2F"));
            let status = trial.app.request(Method::GET, &path).send().await.unwrap().status();
            assert!(status == 400 || status == 404, "{path}: {status}");
        }
    }
    assert_eq!(schema(&trial).await, before);
    trial.goes_on("every injection").await;
}
