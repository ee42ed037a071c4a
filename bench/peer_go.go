// peer_go.go: the same work on goroutines: peer_go yield FIBERS LAPS, peer_go spawn BATCH BATCHES
// REPEATS, or peer_go memory FIBERS. Prints ns per switch, ns per goroutine, or bytes per goroutine.
//
// Always true:
//   - GOMAXPROCS is 1, as coir has one worker; the collector runs as it does by default.
//
// Comes from: rows_*.cpp by programs.cpp.   Goes to: stdout.
package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const blocks = 5

func yield(fibers, laps int) float64 {
	var all sync.WaitGroup
	all.Add(fibers)
	started := 0
	least := math.Inf(1)
	walk := func(index int) {
		defer all.Done()
		started++
		for started < fibers {
			runtime.Gosched()
		}
		for block := 0; block <= blocks; block++ {
			began := time.Now()
			for lap := 0; lap < laps; lap++ {
				runtime.Gosched()
			}
			if index == 0 && block > 0 {
				least = math.Min(least, float64(time.Since(began).Nanoseconds()))
			}
		}
	}
	for i := 0; i < fibers; i++ {
		go walk(i)
	}
	all.Wait()
	return least / float64(laps) / float64(fibers)
}

func spawn(batch, batches, repeats int) float64 {
	least := math.Inf(1)
	ran := 0
	for r := 0; r < repeats; r++ {
		began := time.Now()
		for n := 0; n < batches; n++ {
			var all sync.WaitGroup
			all.Add(batch)
			for i := 0; i < batch; i++ {
				go func() {
					ran++
					all.Done()
				}()
			}
			all.Wait()
		}
		least = math.Min(least, float64(time.Since(began).Nanoseconds()))
	}
	if ran != batch*batches*repeats {
		panic("a goroutine did not run")
	}
	return least / float64(batch*batches)
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

func resident() float64 {
	return 1024 * (kilobytesAfter("/proc/self/smaps_rollup", "Rss:") +
		kilobytesAfter("/proc/self/status", "VmPTE:"))
}

func memory(fibers int) float64 {
	var parked, all sync.WaitGroup
	parked.Add(fibers)
	all.Add(fibers)
	open := make(chan struct{})
	before := resident()
	for i := 0; i < fibers; i++ {
		go func() {
			parked.Done()
			<-open
			all.Done()
		}()
	}
	parked.Wait()
	bytes := (resident() - before) / float64(fibers)
	close(open)
	all.Wait()
	return bytes
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
	switch os.Args[1] {
	case "yield":
		fmt.Println(yield(number(2), number(3)))
	case "spawn":
		fmt.Println(spawn(number(2), number(3), number(4)))
	case "memory":
		fmt.Println(memory(number(2)))
	default:
		panic("unknown work: " + os.Args[1])
	}
}
