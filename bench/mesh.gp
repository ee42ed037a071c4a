# mesh.gp: what mesh_sim says, as pictures over the number of workers:
#   mesh_sim --policy all --tsv build/mesh.tsv
#   gnuplot -e "data='build/mesh.tsv'; pages='docs/benchmarks'" bench/mesh.gp
#
# Always true: every picture is made of what mesh_sim --tsv wrote, and of nothing else.
set terminal svg size 1000,420 font "sans,12" background "white"
set datafile separator "\t"
set logscale x 2
set xrange [1.8:290]
set xtics (2, 4, 8, 16, 32, 64, 128, 256) nomirror
set xlabel "workers (virtual time)"
set grid ytics lc rgb "#dddddd"
set key outside right top noenhanced
set yrange [0:*]

scenarios = "hot_root hot_accept bursts one_slow unequal_cores"
policies = "mesh pushes single"
colours = "#1b7f5c #c2703d #5b6abf #b03060 #9aa0a6"
# The lines of one scenario and one policy.
of(scenario, policy) = sprintf("< awk -F '\t' '$1 == \"%s\" && $2 == \"%s\"' %s", scenario, policy, data)

do for [k = 1 : 3] {
  column = word("4 6 11", k)
  set output pages."/mesh_".word("share mail time", k).".svg"
  set title k == 1 ? "the busiest worker's time in fibers, over the mean" : \
    k == 2 ? "mails per fiber" : "completion, over that of an ideal work-stealing scheduler"
  plot for [i = 1 : words(scenarios)] of(word(scenarios, i), "mesh") using 3 : int(column) \
    with linespoints pt 7 ps 0.6 lw 2 lc rgb word(colours, i) title word(scenarios, i)
}

set output pages."/mesh_policies.svg"
set title "hot\\_root: completion over the ideal, by what the policy may use (logarithmic)"
set logscale y
set yrange [1:*]
plot for [i = 1 : words(policies)] of("hot_root", word(policies, i)) using 3 : 11 \
  with linespoints pt 7 ps 0.6 lw 2 lc rgb word(colours, i) title word(policies, i)
