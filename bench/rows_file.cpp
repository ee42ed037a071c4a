// rows_file.cpp: random reads of 4 KiB from a device, past the page cache.
//
// Always true:
//   - The file lies beside the programs of the bench and is written once; all entries read as many
//     blocks of it after as many that do not count, all but fio the same ones.
//   - The CPU is that of the process, in and out of the kernel; what interrupts take falls on
//     whoever runs, the same for all.
//
// Comes from: coir_bench.cpp.   Goes to: aligned_blocks.hpp, peers.hpp, fio.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <random>
#include <system_error>

#include "bench/aligned_blocks.hpp"
#include "bench/peers.hpp"
#include "bench/programs.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

constexpr std::uint64_t file_blocks = 65'536;  // 256 MiB
constexpr unsigned depth = 128;

[[noreturn]] void fail_with_errno(const std::string& what) {
  throw std::system_error(errno, std::system_category(), what);
}

/// Writes the file unless it is there in full.
void write_file(const std::string& path) {
  struct stat seen {};
  constexpr std::uint64_t wanted = file_blocks * block_bytes;
  if (::stat(path.c_str(), &seen) == 0 && static_cast<std::uint64_t>(seen.st_size) == wanted)
    return;
  const std::string part = path + ".part";
  const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) fail_with_errno(part);
  std::mt19937_64 random(11);
  std::vector<std::uint64_t> words((1 << 20) / sizeof(std::uint64_t));
  for (std::uint64_t written = 0; written < wanted; written += 1 << 20) {
    for (auto& word : words) word = random();
    if (::write(fd, words.data(), 1 << 20) != 1 << 20) fail_with_errno(part);
  }
  if (::fsync(fd) != 0 || ::close(fd) != 0) fail_with_errno(part);
  if (::rename(part.c_str(), path.c_str()) != 0) fail_with_errno(path);
}

sample coir_file_read(const read_plan& plan) {
  const aligned_blocks buffers(plan.depth);
  coir::options chosen{.workers = 1};
  if (plan.fixed) chosen.fixed_buffers = {buffers.all()};
  const auto root = [&] {
    const coir::io::unique_fd file(::open(plan.path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!file) fail_with_errno(plan.path);
    std::vector<coir::handle<void>> fibers;
    const counting counts;
    sample got = measure_reads(plan, [&](unsigned reads, unsigned seed) {
      for (unsigned i = 0; i < plan.depth; ++i)
        fibers.push_back(coir::spawn([&, i, reads, seed] {
          block_numbers blocks(seed + i, plan.blocks);
          const std::span into(buffers.at(i), block_bytes);
          for (unsigned n = 0; n < reads; ++n)
            if (sure(coir::io::pread(file.get(), into, blocks.next() * block_bytes)) != block_bytes)
              throw std::logic_error("a short read");
        }));
      for (auto& fiber : fibers) sure(fiber.join());
      fibers.clear();
    });
    got.per_operation = counts.per(double{1} * plan.depth * (plan.reads + warm_up_reads(plan)));
    return got;
  };
  return on_coir(root, chosen);
}

constexpr const char* fio_path = "/usr/bin/fio";

/// As many reads as the others, and as many before them that do not count: two jobs of one run.
sample fio_reads(const read_plan& plan, int cpu) {
  const auto number_of = [&](unsigned reads) {
    return "--number_ios=" + std::to_string(std::uint64_t{reads} * plan.depth);
  };
  program fio(
      {fio_path, "--output-format=json", "--name=global", "--filename=" + plan.path,
       "--rw=randread", "--bs=4k", "--direct=1", "--ioengine=io_uring",
       plan.fixed ? "--fixedbufs=1" : "--fixedbufs=0", "--iodepth=" + std::to_string(plan.depth),
       "--randrepeat=0", "--norandommap", "--name=warm_up", number_of(warm_up_reads(plan)),
       "--name=counted", "--stonewall", number_of(plan.reads)},
      cpu);
  std::string all;
  while (fio.another_line()) all += fio.line() + '\n';
  fio.wait();
  const auto job = nlohmann::json::parse(all).at("jobs").at(1);
  const auto& read = job.at("read");
  const double share = (job.at("usr_cpu").get<double>() + job.at("sys_cpu").get<double>()) / 100;
  const double iops = read.at("iops").get<double>();
  return {share * 1e9 / iops, iops};
}

void add_reads(rows& to, const settings& chosen, const char* name, const char* what,
               const read_plan& plan) {
  row one{name,
          what,
          {{"CPU per read", "ns"}, {"reads/s", "", false}},
          {{"coir", role::ours, [=] { return coir_file_read(plan); }},
           {"liburing, batches as they come", role::raw, [=] { return raw_file_read(plan); }},
           {"fio, io_uring", role::peer, [=, cpu = chosen.cpu] { return fio_reads(plan, cpu); },
            ::access(fio_path, X_OK) == 0 ? "" : "fio", 2}},
          {{reach::kind::of_raw, 1.10}}};
  one.prepare = [plan] { write_file(plan.path); };
  to.push_back(std::move(one));
}

}  // namespace

void add_file_read(rows& to, const settings& chosen) {
  read_plan plan{chosen.folder + "/file_read.dat", file_blocks, depth, chosen.quick ? 40u : 200u};
  add_reads(to, chosen, "file_read/128", "random 4 KiB reads past the page cache, 128 under way",
            plan);
  plan.fixed = true;
  add_reads(to, chosen, "file_read_fixed/128", "the same into memory that the ring knows", plan);
}

}  // namespace bench
