// answer.cpp: the half of the consumer that parks.
//
// Comes from: main.cpp.   Goes to: the installed headers.
#include <unistd.h>

#include <array>
#include <coir/coir.hpp>

/// A byte that went through a pipe, from one fiber to another.
coir::result<int> answer() {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return coir::fail(std::errc::too_many_files_open);
  const coir::io::unique_fd in(ends[0]), out(ends[1]);
  auto reader = coir::spawn([&] {
    std::byte got{};
    const auto n = coir::io::read(in.get(), {&got, 1});
    return n && *n == 1 ? static_cast<int>(got) : -1;
  });
  const std::byte sent{42};
  if (const auto n = coir::io::write(out.get(), {&sent, 1}); !n) return coir::fail(n.error());
  return reader.join();
}
