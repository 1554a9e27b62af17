//! The demo shop's endpoints: which there are, and how popular, slow and failing each is by nature.
//!
//! Decides nothing about when requests come and what goes wrong on top (`traffic`), nor how one is drawn (`shop`).

/// The service that the slow deploys hit.
pub(super) const CATALOG: &str = "catalog";
/// The service that the outage hits.
pub(super) const CHECKOUT: &str = "checkout";

/// What an endpoint answers: `usual`, but for the percentage of requests given beside each other status.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) usual: u16,
    pub(super) others: &'static [(u16, f64)],
}

const fn answers(usual: u16, others: &'static [(u16, f64)]) -> Answers {
    Answers { usual, others }
}

// Invented, but of an order that a shop would believe: caches answer a third of asset requests, one login in seven has
// a wrong password, one in three carts belongs to nobody yet, server errors stay under one in a hundred.
const ASSET: Answers = answers(200, &[(304, 34.0), (404, 0.4)]);
const PAGE: Answers = answers(200, &[(304, 9.0), (404, 0.8), (301, 0.5), (500, 0.06)]);
const ITEM: Answers = answers(200, &[(304, 6.0), (404, 3.5), (410, 0.6), (500, 0.08)]);
const READ: Answers = answers(200, &[(404, 1.2), (400, 0.4), (500, 0.05), (503, 0.02)]);
const SEARCH: Answers = answers(200, &[(400, 0.4), (429, 0.2), (500, 0.05), (504, 0.02)]);
const PRIVATE: Answers = answers(200, &[(401, 5.0), (403, 0.5), (404, 0.4), (500, 0.08)]);
const CART: Answers = answers(200, &[(302, 38.0), (404, 0.2), (500, 0.1)]);
const FORM: Answers = answers(303, &[(422, 4.0), (400, 0.6), (403, 0.4), (500, 0.15)]);
const LOGIN: Answers = answers(303, &[(401, 14.0), (422, 1.5), (429, 1.2), (500, 0.04)]);
const CREATE: Answers = answers(201, &[(422, 2.5), (400, 0.8), (409, 0.7), (500, 0.15)]);
const CHANGE: Answers = answers(200, &[(422, 2.2), (404, 0.9), (409, 0.8), (500, 0.12)]);
const DELETE: Answers = answers(204, &[(404, 2.8), (409, 0.3), (500, 0.05)]);
const VOUCHER: Answers = answers(200, &[(422, 31.0), (404, 6.0), (500, 0.1)]);
const PAYMENT: Answers = answers(201, &[(402, 6.0), (409, 0.6), (502, 0.4), (504, 0.15)]);
const WEBHOOK: Answers = answers(202, &[(400, 0.5), (401, 0.3), (500, 0.3)]);
const HEALTH: Answers = answers(200, &[(503, 0.02)]);

/// An endpoint of a service.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    /// Place by popularity over all services, 1 the busiest; no two share one.
    pub(super) rank: u8,
    /// Half of its usual answers are quicker than this, at average load.
    pub(super) median_ms: f64,
    /// Spread of the logarithm: 0.25 hardly varies, 1.0 puts one in a hundred at ten medians.
    pub(super) sigma: f64,
    pub(super) answers: Answers,
}

const fn row(
    method: &'static str,
    route: &'static str,
    rank: u8,
    median_ms: f64,
    sigma: f64,
    answers: Answers,
) -> Endpoint {
    Endpoint { method, route, rank, median_ms, sigma, answers }
}

/// Services and their endpoints: method, route, rank, median in milliseconds, sigma, answers.
///
/// The busiest, the slowest and the most failing are different endpoints, so that each ranking has its own leader.
#[rustfmt::skip] // a table reads by its columns
pub(super) const SERVICES: [(&str, &[Endpoint]); 3] = [
    ("shop-web", &[
        row("GET",    "/",                                5,   34.0, 0.45, PAGE),
        row("GET",    "/account",                        25,   42.0, 0.45, PRIVATE),
        row("GET",    "/account/orders",                 29,   96.0, 0.65, PRIVATE),
        row("GET",    "/account/orders/{id}",            34,   58.0, 0.50, PRIVATE),
        row("GET",    "/assets/{file}",                   1,    2.1, 0.60, ASSET),
        row("GET",    "/brands/{slug}",                  28,   55.0, 0.50, PAGE),
        row("GET",    "/cart",                            9,   28.0, 0.45, CART),
        row("POST",   "/cart/items",                     12,   36.0, 0.50, FORM),
        row("POST",   "/cart/items/{id}/remove",         31,   31.0, 0.45, FORM),
        row("GET",    "/categories/{slug}",               6,   61.0, 0.50, PAGE),
        row("GET",    "/healthz",                        17,    1.2, 0.30, HEALTH),
        row("GET",    "/help/{topic}",                   39,   18.0, 0.40, PAGE),
        row("GET",    "/items/{id}",                      3,   52.0, 0.50, ITEM),
        row("GET",    "/login",                          20,   16.0, 0.35, PAGE),
        row("POST",   "/login",                          18,  215.0, 0.25, LOGIN),
        row("POST",   "/logout",                         42,    9.0, 0.35, FORM),
        row("POST",   "/newsletter",                     55,   70.0, 0.70, FORM),
        row("GET",    "/offers",                         14,   45.0, 0.55, PAGE),
        row("POST",   "/password/reset",                 52,  240.0, 0.55, FORM),
        row("POST",   "/register",                       46,  260.0, 0.30, FORM),
        row("POST",   "/reviews/{item}",                 50,   64.0, 0.60, FORM),
        row("GET",    "/search",                          8,  150.0, 0.70, SEARCH),
        row("GET",    "/sitemap.xml",                    57,  330.0, 0.50, PAGE),
        row("GET",    "/wishlist",                       35,   38.0, 0.50, PRIVATE),
    ]),
    (CHECKOUT, &[
        row("POST",   "/checkout",                       21,   85.0, 0.50, CREATE),
        row("GET",    "/checkout/{id}",                  15,   24.0, 0.45, PRIVATE),
        row("PUT",    "/checkout/{id}/address",          26,   48.0, 0.50, CHANGE),
        row("POST",   "/checkout/{id}/confirm",          30,  390.0, 0.80, PAYMENT),
        row("PUT",    "/checkout/{id}/payment-method",   33,   66.0, 0.50, CHANGE),
        row("GET",    "/checkout/{id}/shipping-options", 24,  175.0, 0.75, READ),
        row("GET",    "/checkout/{id}/status",           13,    7.5, 0.50, READ),
        row("POST",   "/checkout/{id}/voucher",          40,   54.0, 0.50, VOUCHER),
        row("DELETE", "/checkout/{id}/voucher",          58,   33.0, 0.40, DELETE),
        row("GET",    "/healthz",                        19,    1.5, 0.30, HEALTH),
        row("POST",   "/orders",                         32,  120.0, 0.55, CREATE),
        row("GET",    "/orders/{id}",                    23,   19.0, 0.50, PRIVATE),
        row("GET",    "/orders/{id}/invoice",            43,  410.0, 0.90, PRIVATE),
        row("POST",   "/payments",                       36,  430.0, 0.75, PAYMENT),
        row("POST",   "/payments/webhook",               37,   14.0, 0.55, WEBHOOK),
        row("POST",   "/payments/{id}/refund",           59,  520.0, 0.60, PAYMENT),
    ]),
    (CATALOG, &[
        row("GET",    "/healthz",                        22,    0.9, 0.30, HEALTH),
        row("GET",    "/v1/brands",                      44,    6.5, 0.40, READ),
        row("GET",    "/v1/categories",                  16,    5.0, 0.45, READ),
        row("GET",    "/v1/categories/{id}/items",       11,   31.0, 0.60, READ),
        row("GET",    "/v1/export",                      60, 2400.0, 0.70, READ),
        row("GET",    "/v1/facets",                      27,   88.0, 0.70, SEARCH),
        row("POST",   "/v1/imports",                     56,  900.0, 0.85, CREATE),
        row("GET",    "/v1/items",                       38,   47.0, 0.60, READ),
        row("POST",   "/v1/items",                       54,   39.0, 0.50, CREATE),
        row("GET",    "/v1/items/{id}",                   2,    8.5, 0.55, ITEM),
        row("PUT",    "/v1/items/{id}",                  47,   44.0, 0.55, CHANGE),
        row("DELETE", "/v1/items/{id}",                  53,   26.0, 0.45, DELETE),
        row("GET",    "/v1/items/{id}/images",           41,    4.0, 0.50, READ),
        row("GET",    "/v1/items/{id}/price",             4,    3.2, 0.45, READ),
        row("GET",    "/v1/items/{id}/related",          45,  130.0, 0.85, READ),
        row("GET",    "/v1/items/{id}/stock",             7,    4.4, 0.70, READ),
        row("POST",   "/v1/reservations",                48,   22.0, 0.60, CREATE),
        row("DELETE", "/v1/reservations/{id}",           51,   17.0, 0.50, DELETE),
        row("GET",    "/v1/search",                      10,   72.0, 0.80, SEARCH),
        row("GET",    "/v1/suggest",                     49,   11.0, 0.65, SEARCH),
    ]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all() -> impl Iterator<Item = (&'static str, &'static Endpoint)> {
        SERVICES.iter().flat_map(|&(service, endpoints)| endpoints.iter().map(move |endpoint| (service, endpoint)))
    }

    #[test]
    fn there_are_sixty_endpoints_and_none_twice() {
        let names: HashSet<_> = all().map(|(service, endpoint)| (service, endpoint.method, endpoint.route)).collect();
        assert_eq!((names.len(), all().count()), (60, 60));
    }

    #[test]
    fn each_rank_from_the_first_on_is_given_once() {
        let mut ranks: Vec<u8> = all().map(|(_, endpoint)| endpoint.rank).collect();
        ranks.sort_unstable();
        assert!(ranks.into_iter().eq(1..=60));
    }

    #[test]
    fn the_usual_answer_is_the_most_frequent_and_not_among_the_others() {
        for (service, endpoint) in all() {
            let Answers { usual, others } = endpoint.answers;
            let share: f64 = others.iter().map(|(_, percent)| percent).sum();
            assert!(share < 50.0, "{service} {}", endpoint.route);
            assert!(others.iter().all(|&(status, _)| status != usual), "{service} {}", endpoint.route);
        }
    }
}
