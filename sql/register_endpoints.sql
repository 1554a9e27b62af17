-- name: numbers of endpoints, new ones made as long as there is room
-- $1, $2, $3: service, method, route of each, without repeats. $4: endpoints a service may have, $5: services there may be,
-- $6: endpoints there may be in all.
-- {other} is always let in. What does not come back found no room. Under the endpoints lock, so that replicas cannot
-- overfill a service between them; the caller retries once where two new endpoints met.
WITH wanted AS (
    SELECT service, method, route FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (service, method, route)
),
known AS (
    SELECT endpoints.id, service, method, route FROM wanted JOIN endpoints USING (service, method, route)
),
missing AS (
    SELECT service, method, route FROM wanted EXCEPT SELECT service, method, route FROM known
),
services AS (
    -- Every service of the missing ones, and whether it may be: known already, {other}, or among the first new ones.
    SELECT
        service,
        old OR service = '{other}' OR COUNT(*) FILTER (WHERE NOT old) OVER (ORDER BY old DESC, service) + (SELECT COUNT(DISTINCT service) FROM endpoints) <= $5::bigint AS allowed
    FROM (
        SELECT service, EXISTS (SELECT FROM endpoints WHERE endpoints.service = missing.service) AS old
        FROM missing GROUP BY service
    ) AS asked
),
ranked AS (
    SELECT
        missing.service, missing.method, missing.route,
        COUNT(*) FILTER (WHERE missing.route <> '{other}') OVER (PARTITION BY missing.service ORDER BY missing.route, missing.method)
            + (SELECT COUNT(*) FROM endpoints WHERE endpoints.service = missing.service AND endpoints.route <> '{other}') AS position,
        COUNT(*) FILTER (WHERE missing.route <> '{other}') OVER (ORDER BY missing.service, missing.route, missing.method)
            + (SELECT COUNT(*) FROM endpoints WHERE route <> '{other}') AS position_in_all
    FROM missing
    JOIN services USING (service)
    WHERE services.allowed
),
made AS (
    INSERT INTO endpoints (service, method, route)
    SELECT service, method, route FROM ranked
    WHERE route = '{other}' OR (position <= $4::bigint AND position_in_all <= $6::bigint)
    ORDER BY service, method, route
    ON CONFLICT DO NOTHING
    RETURNING id, service, method, route
)
SELECT id, service, method, route FROM known
UNION ALL
SELECT id, service, method, route FROM made
