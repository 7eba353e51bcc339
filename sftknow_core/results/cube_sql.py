"""The SQL of the delta cube: macros that rank and cut a region, and the paper's tables as views.

A bin of the cube is the top 16 bits of a float32 score, so a query knows of every bin its smallest and
largest possible score (`lower_edge`, `upper_edge`), the number of its weights and the sums of their scores
and of their squared changes. Taking the first x weights of a region then takes whole bins, and m of the N
weights of one more, the boundary bin. What those m hold is put at m/N of what the bin holds:

score    The m highest hold at least m/N of the bin's sum S, as their mean is no lower than the bin's mean
         S/N. They hold at most m * high, and at most S - (N - m) * low, as the others are no lower than
         `low`. So the true sum lies above m/N * S, by no more than

             min(m * (high - S/N), (N - m) * (S/N - low)).

         The m lowest mirror that: below, by no more than min(m * (S/N - low), (N - m) * (high - S/N)).
         Both are reached by weights that lie at the edges: no tighter bound follows from the cube. Highest
         first the error is below 0.8% of the sum taken, as a bin is less than 0.8% wide.
energy   Ranked by |d| the same with squared edges, since d^2 grows with |d|. Ranked by r nothing is known of
         d inside the bin: the m weights hold something between 0 and all of its energy E, so m/N * E is
         off by at most max(m, N - m)/N * E.
counts   How many of the m belong to a group (a layer, a module) with g of the N lies between
         max(0, m - (N - g)) and min(m, g); put at m * g/N.

The bounds are exact but for float64 rounding.
"""

from __future__ import annotations

EDGES = (
    """CREATE MACRO lower_edge(number) AS
        (if(number < 128, 0, 1) + (number & 127) / 128) * pow(2.0, greatest(number >> 7, 1) - 127)""",
    """CREATE MACRO upper_edge(number) AS
        lower_edge(number) + (1 - pow(2.0, -16)) * pow(2.0, greatest(number >> 7, 1) - 134)""",
)
"""The smallest and the largest float32 of a bin; below 128 they are subnormal."""

INSIDE = (
    """CREATE MACRO share_taken(before, total, m, n, whole) AS
        least(coalesce(before + total * m / n, 0), whole) / nullif(whole, 0)""",
    """CREATE MACRO off_by_at_most(m, n, total, low, high, highest_first) AS
        greatest(0, if(highest_first,
            least(m * (high - total / n), (n - m) * (total / n - low)),
            least(m * (total / n - low), (n - m) * (high - total / n))))""",
)
"""The share interpolated inside a bin of n values; how far m/n * total can be from the sum of the m highest
(lowest) of n values between low and high."""

RANKED = """CREATE MACRO ranked_bins(tensors, which, highest_first) AS TABLE
    WITH bins AS (
        SELECT bin, sum(n)::BIGINT AS n, sum(sum_score) AS sum_score, sum(sum_d2) AS sum_d2
        FROM cube WHERE score = which AND tensor_id IN (SELECT unnest(tensors)) GROUP BY bin
    )
    SELECT *,
        coalesce(sum(n) OVER before, 0)::BIGINT AS n_before,
        coalesce(sum(sum_score) OVER before, 0) AS score_before,
        coalesce(sum(sum_d2) OVER before, 0) AS d2_before
    FROM bins
    WINDOW before AS (
        ORDER BY if(highest_first, -bin, bin) ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )"""
"""The bins of a region in the order of the score, each with what comes before it."""

CUTS = """CREATE MACRO cuts(tensors, which, highest_first, ks, counts) AS TABLE
    WITH ranked AS MATERIALIZED (FROM ranked_bins(tensors, which, highest_first)),
    whole AS (
        SELECT max(n_before + n) AS n_counted, max(score_before + sum_score) AS whole_score,
            max(d2_before + sum_d2) AS whole_d2,
            coalesce(sum(n) FILTER (WHERE bin > 0), 0)::BIGINT AS n_positive
        FROM ranked
    ),
    asked AS (
        SELECT unnest(range(len(counts))) AS place, unnest(ks) AS k_percent,
            unnest(counts)::BIGINT AS n_restored
    ),
    cut AS (
        SELECT asked.*, whole.*, ranked.*, n_restored - n_before AS m,
            lower_edge(bin) AS low, upper_edge(bin) AS high
        FROM asked CROSS JOIN whole
        LEFT JOIN ranked ON n_restored > n_before AND n_restored <= n_before + n
    )
    SELECT place, k_percent, n_restored, n_counted, n_positive,
        bin AS boundary_bin, low AS threshold_low, high AS threshold_high,
        share_taken(score_before, sum_score, m, n, whole_score) AS share,
        coalesce(off_by_at_most(m, n, sum_score, low, high, highest_first), 0)
            / nullif(whole_score, 0) AS share_error,
        share_taken(d2_before, sum_d2, m, n, whole_d2) AS energy,
        coalesce(CASE
            WHEN which = 'absolute' THEN off_by_at_most(m, n, sum_d2, low * low, high * high, highest_first)
            WHEN m < n THEN sum_d2 * greatest(m, n - m) / n
        END, 0) / nullif(whole_d2, 0) AS energy_error
    FROM cut"""
"""One row a count: the first `n_restored` weights of a region, their share of the score and of the energy."""

PLACES = """CREATE MACRO places(tensors, which, highest_first, n_taken) AS TABLE
    WITH asked AS (SELECT n_taken AS n_all),
    edge AS (
        SELECT bin AS edge_bin, n AS n_edge, n_all - n_before AS m
        FROM asked JOIN ranked_bins(tensors, which, highest_first)
            ON n_all > n_before AND n_all <= n_before + n
    ),
    taken AS (
        SELECT tensor_id,
            sum(n) FILTER (WHERE if(highest_first, bin > edge_bin, bin < edge_bin)) AS n_above,
            sum(n) FILTER (WHERE bin = edge_bin) AS n_on_edge
        FROM cube CROSS JOIN edge
        WHERE score = which AND tensor_id IN (SELECT unnest(tensors)) GROUP BY tensor_id
    ),
    grouped AS (
        SELECT layer, module, kind,
            CASE GROUPING(layer, module, kind)
                WHEN 3 THEN 'layer' WHEN 5 THEN 'module' WHEN 6 THEN 'kind' ELSE 'layer x module'
            END AS breakdown,
            min(position) AS place, sum(n_params)::BIGINT AS n,
            coalesce(sum(n_above), 0)::BIGINT AS n_above, coalesce(sum(n_on_edge), 0)::BIGINT AS g
        FROM delta_tensors LEFT JOIN taken USING (tensor_id)
        WHERE tensor_id IN (SELECT unnest(tensors))
        GROUP BY GROUPING SETS ((layer), (module), (kind), (layer, module))
    ),
    split AS (
        SELECT *, coalesce(m::DOUBLE * g / n_edge, 0) AS n_split,
            n / sum(n) OVER (PARTITION BY breakdown) AS weight_share
        FROM grouped CROSS JOIN asked LEFT JOIN edge ON true
    )
    SELECT breakdown, layer, module, kind, n, place,
        n_above + n_split AS n_restored,
        (n_above + n_split) / nullif(n_all, 0) AS share,
        weight_share,
        (n_above + n_split) / nullif(n_all, 0) / nullif(weight_share, 0) AS enrichment,
        coalesce(greatest(least(m, g) - n_split, n_split - greatest(0, m - (n_edge - g))), 0)
            / nullif(n_all, 0) AS share_error
    FROM split"""
"""Where the first `n_taken` weights of a region sit: one row a layer, module, kind, and layer x module."""

PAPER_TABLES = (
    """CREATE MACRO transformer_tensors() AS
        (SELECT list(tensor_id) FROM region_tensors WHERE region = 'transformer')""",
    """CREATE VIEW table3_concentration AS
        SELECT base_name AS model, k_percent AS top_percent,
            100 * share AS share_of_total_relative_change_percent, 100 * share_error AS error_pp
        FROM cube_run, cuts(transformer_tensors(), 'relative', true,
            (SELECT list(k_percent ORDER BY k_percent) FROM paper_ks WHERE in_table = 3),
            (SELECT list(n_restored ORDER BY k_percent) FROM paper_ks WHERE in_table = 3))
        ORDER BY top_percent""",
    """CREATE VIEW table9_layers AS
        SELECT base_name AS model, layer, 100 * share AS share_percent, k_percent, 100 * share_error AS error_pp
        FROM cube_run, paper_ks, places(transformer_tensors(), 'relative', true,
            (SELECT n_restored FROM paper_ks WHERE in_table = 9))
        WHERE in_table = 9 AND breakdown = 'layer' ORDER BY layer""",
    """CREATE VIEW table10_modules AS
        SELECT base_name AS model, module, 100 * share AS share_percent, k_percent,
            100 * share_error AS error_pp
        FROM cube_run, paper_ks, places(transformer_tensors(), 'relative', true,
            (SELECT n_restored FROM paper_ks WHERE in_table = 10))
        WHERE in_table = 10 AND breakdown = 'module' ORDER BY share_percent DESC, module""",
)
"""Tables 3, 9 and 10 of arXiv 2509.16596 for this pair: the paper's column names, percent, region transformer."""

MACROS = (*EDGES, *INSIDE, RANKED, CUTS, PLACES)
"""In the order in which they build on one another; the views build on them."""
