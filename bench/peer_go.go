// peer_go.go: the same work on goroutines: peer_go WORK ARGUMENTS. Prints one line of figures, or
// serves until SIGTERM.
//
// Always true:
//   - GOMAXPROCS is 1, as coir has one worker, and 2 for what is about two (peer_go_mesh.go); the
//     collector runs as it does by default.
//   - Whoever measures warms up first and then spends SPEND_NS, as the C++ entries do.
//
// Comes from: rows_*.cpp by programs.cpp.   Goes to: stdout.
package main

import (
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var spend = 40 * time.Millisecond

//go:noinline
func a1() { a2() }

//go:noinline
func a2() { a3() }

//go:noinline
func a3() { runtime.Gosched() }

//go:noinline
func b1() { b2() }

//go:noinline
func b2() { b3() }

//go:noinline
func b3() { runtime.Gosched() }

type ring struct {
	fibers, laps, started, blocks int
	ended                         bool
	least                         float64
	until                         time.Time
}

// once around: what every loop does before its laps, and after them when it is the first.
func (r *ring) counted(began time.Time) {
	now := time.Now()
	if r.blocks == 0 {
		r.until = now.Add(spend)
	} else {
		r.least = math.Min(r.least, float64(now.Sub(began).Nanoseconds()))
	}
	r.blocks++
	r.ended = r.blocks > 3 && now.After(r.until)
}

func (r *ring) walkA(index int, all *sync.WaitGroup) {
	defer all.Done()
	r.started++
	for more := true; more; more = r.started < r.fibers {
		runtime.Gosched()
	}
	for !r.ended {
		began := time.Now()
		for lap := 0; lap < r.laps; lap++ {
			runtime.Gosched()
		}
		if index == 0 {
			r.counted(began)
		}
	}
}

func (r *ring) walkB(index int, all *sync.WaitGroup) {
	defer all.Done()
	r.started++
	for more := true; more; more = r.started < r.fibers {
		runtime.Gosched()
	}
	for !r.ended {
		for lap := 0; lap < r.laps; lap++ {
			runtime.Gosched()
		}
	}
}

func (r *ring) walkChain(index int, all *sync.WaitGroup, second bool) {
	defer all.Done()
	r.started++
	for more := true; more; more = r.started < r.fibers {
		runtime.Gosched()
	}
	for !r.ended {
		began := time.Now()
		if second {
			for lap := 0; lap < r.laps; lap++ {
				b1()
			}
		} else {
			for lap := 0; lap < r.laps; lap++ {
				a1()
			}
		}
		if index == 0 {
			r.counted(began)
		}
	}
}

func yield(shape string, fibers, laps int) float64 {
	var all sync.WaitGroup
	all.Add(fibers)
	r := &ring{fibers: fibers, laps: laps, least: math.Inf(1)}
	for i := 0; i < fibers; i++ {
		switch {
		case strings.HasPrefix(shape, "depth4"):
			go r.walkChain(i, &all, shape == "depth4_two_chains" && i%2 == 1)
		case shape != "same_site" && i%2 == 1:
			go r.walkB(i, &all)
		default:
			go r.walkA(i, &all)
		}
	}
	all.Wait()
	return r.least / float64(laps) / float64(fibers)
}

func fastest(once func()) float64 {
	once()
	least := math.Inf(1)
	until := time.Now().Add(spend)
	for call := 0; call < 3 || time.Now().Before(until); call++ {
		began := time.Now()
		once()
		least = math.Min(least, float64(time.Since(began).Nanoseconds()))
	}
	return least
}

// The median call instead, for wake-ups between CPUs.
func usual(once func()) float64 {
	once()
	var each []float64
	until := time.Now().Add(spend)
	for len(each) < 3 || time.Now().Before(until) {
		began := time.Now()
		once()
		each = append(each, float64(time.Since(began).Nanoseconds()))
	}
	sort.Float64s(each)
	return each[len(each)/2]
}

func spawn(batch, batches, closure int) float64 {
	ran := 0
	var bytes [248]byte
	bytes[0] = 1
	least := fastest(func() {
		for n := 0; n < batches; n++ {
			var all sync.WaitGroup
			all.Add(batch)
			for i := 0; i < batch; i++ {
				if closure == 0 {
					go func() {
						ran++
						all.Done()
					}()
					continue
				}
				go func(cargo [248]byte) {
					ran += int(cargo[0])
					all.Done()
				}(bytes)
			}
			all.Wait()
		}
	})
	if ran == 0 || ran%(batch*batches) != 0 {
		panic("a goroutine did not run")
	}
	return least / float64(batch*batches)
}

func cpuUsed() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e6
}

func sleepers(fibers, times int, each time.Duration, late []time.Duration) {
	var all sync.WaitGroup
	all.Add(fibers)
	for i := 0; i < fibers; i++ {
		go func(i int) {
			defer all.Done()
			for n := 0; n < times; n++ {
				if late == nil {
					time.Sleep(each)
					continue
				}
				began := time.Now()
				time.Sleep(each)
				late[i*times+n] = time.Since(began) - each
			}
		}(i)
	}
	all.Wait()
}

func sleep(fibers, times int, each time.Duration) {
	sleepers(fibers, times, each, nil)
	cpu, wall := cpuUsed(), time.Now()
	sleepers(fibers, times, each, nil)
	usedMs, wallMs := cpuUsed()-cpu, float64(time.Since(wall).Nanoseconds())/1e6
	late := make([]time.Duration, fibers*times)
	sleepers(fibers, times, each, late)
	sort.Slice(late, func(i, j int) bool { return late[i] < late[j] })
	fmt.Println(usedMs, wallMs, float64(late[len(late)*99/100].Nanoseconds())/1e3)
}

func timers(others int, any bool) float64 {
	const acts = 100000
	random := uint64(7)
	draw := func() time.Duration {
		random ^= random << 13
		random ^= random >> 7
		random ^= random << 17
		return time.Hour + time.Duration(random%uint64(time.Minute))
	}
	all := make([]*time.Timer, others)
	for i := range all {
		all[i] = time.AfterFunc(draw(), func() {})
	}
	mine := time.AfterFunc(draw(), func() {})
	mine.Stop()
	return fastest(func() {
		for i := 0; i < acts; i++ {
			one := mine
			if any {
				one = all[int(random)&math.MaxInt%others]
				one.Stop()
			}
			one.Reset(draw())
			if !any {
				one.Stop()
			}
		}
	}) / acts
}

func kilobytesAfter(path, field string) float64 {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, field) {
			value, err := strconv.ParseFloat(strings.Fields(line)[1], 64)
			if err != nil {
				panic(err)
			}
			return value
		}
	}
	panic(field + " not found")
}

func parked(fibers int) {
	var there, all sync.WaitGroup
	there.Add(fibers)
	all.Add(fibers)
	open := make(chan struct{})
	began := time.Now()
	for i := 0; i < fibers; i++ {
		go func() {
			there.Done()
			<-open
			all.Done()
		}()
	}
	there.Wait()
	spent := time.Since(began)
	bytes := 1024 * (kilobytesAfter("/proc/self/status", "VmRSS:") +
		kilobytesAfter("/proc/self/status", "VmPTE:")) / float64(fibers)
	ending := time.Now()
	close(open)
	all.Wait()
	spent += time.Since(ending)
	fmt.Println(bytes, float64(spent.Nanoseconds())/float64(fibers))
}

func echo() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			peer, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer peer.Close()
				buffer := make([]byte, 16384)
				for {
					got, err := peer.Read(buffer)
					if err != nil {
						return
					}
					if _, err := peer.Write(buffer[:got]); err != nil {
						return
					}
				}
			}()
		}
	}()
	fmt.Printf("listening on 127.0.0.1:%d\n", listener.Addr().(*net.TCPAddr).Port)
	<-end
}

func number(at int) int {
	value, err := strconv.Atoi(os.Args[at])
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	runtime.GOMAXPROCS(1)
	if text := os.Getenv("SPEND_NS"); text != "" {
		ns, err := strconv.Atoi(text)
		if err != nil {
			panic(err)
		}
		spend = time.Duration(ns)
	}
	switch os.Args[1] {
	case "yield":
		fmt.Println(yield(os.Args[2], number(3), number(4)))
	case "spawn":
		fmt.Println(spawn(number(2), number(3), number(4)))
	case "sleep":
		sleep(number(2), number(3), time.Duration(number(4)))
	case "timer":
		fmt.Println(timers(number(2), false))
	case "timer_any":
		fmt.Println(timers(number(2), true))
	case "parked":
		parked(number(2))
	case "echo":
		echo()
	case "spawn_bounded":
		fmt.Println(spawnBounded(number(2), number(3), number(4), number(5)))
	case "skynet":
		fmt.Println(skynet(number(2), uint64(number(3))))
	case "hot_root":
		fmt.Println(hotRoot(number(2)))
	case "pingpong":
		fmt.Println(pingpong(os.Args[2]))
	case "spawn_foreign":
		fmt.Println(spawnForeign())
	default:
		panic("unknown work: " + os.Args[1])
	}
}
