# plots.gp: the figures of one run as pictures, one per family of rows:
#   gnuplot -e "data='build/bench.tsv'; pages='docs/benchmarks'" bench/plots.gp
#
# Always true: every picture is made of what coir_bench --tsv wrote, and of nothing else.
set terminal svg size 1000,520 font "sans,12" background "white"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set grid ytics lc rgb "#dddddd"
set key outside top center horizontal
set xtics nomirror rotate by -20 noenhanced
set logscale y

# A table of one family: row, coir, the best by hand, the best peer ("nan" where there is none).
family(pattern) = sprintf("awk -F '\t' 'function least(k, v) { if (!((r, k) in b) || v < b[r, k]) b[r, k] = v } \
  NR > 1 && $1 ~ /%s/ { r = $1; if (!seen[r]++) order[++n] = r; least($2, $4 + 0) } \
  function of(r, k) { return (r, k) in b ? b[r, k] : \"nan\" } \
  END { for (i = 1; i <= n; ++i) print order[i] \"\t\" of(order[i], \"coir\") \"\t\" of(order[i], \"raw\") \"\t\" of(order[i], \"peer\") }' %s", pattern, data)

do for [name in "switch yield spawn sleep timer nop echo deadline pingpong"] {
  table = family("^".name)
  if (strlen(system(table)) > 0) {
    set output pages."/".name.".svg"
    set title name.": least of all rounds, less is better (logarithmic)"
    set ylabel name eq "echo" ? "ns of server CPU per message" : \
      name eq "sleep" ? "ms of CPU" : "ns per operation"
    set datafile separator "\t"
    # A column without any figure would be an error.
    peers = int(system(table." | awk -F '\t' '$4 != \"nan\"' | wc -l"))
    plot for [k = 2 : peers > 0 ? 4 : 3] "< ".table using k:xtic(1) \
      title word("coir by-hand best-peer", k - 1) lc rgb word("#1b7f5c #9aa0a6 #c2703d", k - 1)
  }
}
