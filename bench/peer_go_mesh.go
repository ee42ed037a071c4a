// peer_go_mesh.go: what two workers share, on goroutines; a part of peer_go.
//
// Always true:
//   - GOMAXPROCS is 2 unless the work says otherwise.
//   - The tasks of hot_root take TASK_STEPS of the same chain as everybody's.
//
// Comes from: peer_go.go.   Goes to: stdout.
package main

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

func grow(first, leaves uint64, to *uint64, all *sync.WaitGroup) {
	defer all.Done()
	if leaves == 1 {
		*to = first
		return
	}
	var sums [10]uint64
	var children sync.WaitGroup
	children.Add(10)
	each := leaves / 10
	for i := range sums {
		go grow(first+uint64(i)*each, each, &sums[i], &children)
	}
	children.Wait()
	sum := uint64(0)
	for _, one := range sums {
		sum += one
	}
	*to = sum
}

func skynet(procs int, leaves uint64) float64 {
	runtime.GOMAXPROCS(procs)
	return fastest(func() {
		var sum uint64
		var root sync.WaitGroup
		root.Add(1)
		go grow(0, leaves, &sum, &root)
		root.Wait()
		if sum != leaves*(leaves-1)/2 {
			panic("a leaf is missing")
		}
	}) / float64(leaves)
}

//go:noinline
func compute(steps int) uint64 {
	x := uint64(88172645463325252)
	for i := 0; i < steps; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

var computed uint64

func hotRoot(count int) float64 {
	runtime.GOMAXPROCS(2)
	steps, err := strconv.Atoi(os.Getenv("TASK_STEPS"))
	if err != nil {
		panic(err)
	}
	return fastest(func() {
		var all sync.WaitGroup
		all.Add(count)
		for i := 0; i < count; i++ {
			go func() {
				if compute(steps) == 0 {
					computed++
				}
				all.Done()
			}()
		}
		all.Wait()
	}) / float64(count)
}

// At most `alive` goroutines at a time, as many as the other side has records.
func spawnBounded(procs, count, alive, steps int) float64 {
	runtime.GOMAXPROCS(procs)
	places := make(chan struct{}, alive)
	once := func() {
		var all sync.WaitGroup
		all.Add(count)
		for i := 0; i < count; i++ {
			places <- struct{}{}
			go func() {
				if steps != 0 && compute(steps) == 0 {
					panic("a chain has ended")
				}
				<-places
				all.Done()
			}()
		}
		all.Wait()
	}
	return fastest(once) / float64(count)
}

// This goroutine stays on a thread of its own, and that on one CPU.
func settle(cpu int) {
	runtime.LockOSThread()
	var set [16]uint64
	set[cpu/64] = 1 << (cpu % 64)
	if _, _, err := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(set),
		uintptr(unsafe.Pointer(&set))); err != 0 {
		panic(err)
	}
}

// Two goroutines and two channels; each on a thread of its own where both are to sleep.
func pingpong(where string) float64 {
	laps := 10000
	if where == "same" {
		runtime.GOMAXPROCS(1)
	} else {
		runtime.GOMAXPROCS(2)
	}
	if where == "asleep" {
		laps = 200
		settle(number(3))
	}
	ping, pong := make(chan int), make(chan int)
	go func() {
		if where == "asleep" {
			settle(number(4))
		}
		for ball := range ping {
			pong <- ball
		}
		close(pong)
	}()
	counts := fastest
	if where == "asleep" {
		counts = usual
	}
	took := counts(func() {
		for lap := 0; lap < laps; lap++ {
			ping <- lap
			if <-pong != lap {
				panic("another ball came back")
			}
		}
	})
	close(ping)
	<-pong
	return took / float64(laps)
}

// A thread that is no other goroutine's starts one and waits for its end.
func spawnForeign() float64 {
	const count = 200
	runtime.GOMAXPROCS(2)
	runtime.LockOSThread()
	ran := 0
	took := usual(func() {
		for i := 0; i < count; i++ {
			done := make(chan struct{})
			go func() {
				ran++
				close(done)
			}()
			<-done
		}
	})
	if ran == 0 || ran%count != 0 {
		panic("a goroutine did not run")
	}
	return took / count
}
