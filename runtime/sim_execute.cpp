// sim_execute.cpp: what each opcode does to the simulated world.
//
// Always true:
//   - An operation that would block has changed nothing.
//   - What no branch knows answers EINVAL, as an old kernel does; a rule can answer for it.
//
// Comes from: sim.cpp.   Goes to: sim_disk, sim_wire, sim_memory.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "runtime/sim.hpp"

namespace coir::detail {
namespace {

constexpr std::uint64_t position_of_file = ~std::uint64_t{0};

bool is_write(const io_uring_sqe& e) noexcept {
  return e.opcode == IORING_OP_WRITE || e.opcode == IORING_OP_WRITEV;
}

std::uint64_t place_of(const io_uring_sqe& e, const sim_open& on) noexcept {
  if (on.appends && is_write(e)) return on.file->size();
  return e.off == position_of_file ? on.position : e.off;
}

}  // namespace

void sim::prepare(flying& f) {
  if (f.on == nullptr || f.on->file == nullptr) return;
  if (f.entry->opcode == IORING_OP_FSYNC) f.sync_mark = f.on->file->sync_mark();
  if (!is_write(*f.entry) || !f.on->writes) return;
  // From here on any part of it may be on the disk.
  const std::uint64_t offset = place_of(*f.entry, *f.on);
  if (offset <= sim_file::bytes_max)
    f.write_name = f.on->file->write_begins(offset, world_.memory.fetch(f.number));
}

void sim::fail_on_disk(flying& f) {
  if (f.entry->opcode == IORING_OP_FSYNC && f.on != nullptr && f.on->file != nullptr)
    f.on->file->sync_failed(f.sync_mark, world_.dice_);
}

std::size_t sim::most(const flying& f, std::size_t wanted) noexcept {
  return std::min(wanted, f.fate.bytes_max.value_or(wanted));
}

std::int32_t sim::execute(flying& f) {
  if (f.is_real) return execute_for_real(f);
  switch (f.entry->opcode) {
    case IORING_OP_NOP:
      return 0;
    case IORING_OP_TIMEOUT:
      return -ETIME;
    case IORING_OP_OPENAT:
      return open_path(f);
    case IORING_OP_STATX:
      return stat_path(f);
    case IORING_OP_CLOSE:
      if (f.on == nullptr || world_.at(f.entry->fd) != f.on) return -EBADF;
      world_.close(f.entry->fd);
      f.on.reset();
      return 0;
    default:
      break;
  }
  if (f.on == nullptr) return -EBADF;
  if (f.entry->opcode == IORING_OP_POLL_ADD) return poll(f);
  switch (f.on->is) {
    case sim_open::kind::file:
      return execute_on_file(f);
    case sim_open::kind::folder:
      if (f.entry->opcode != IORING_OP_FSYNC) return -EISDIR;
      world_.disk.sync_folder(f.on->path);
      return 0;
    case sim_open::kind::end:
      return execute_on_end(f);
    case sim_open::kind::listener:
      return f.entry->opcode == IORING_OP_ACCEPT ? accept(f) : -EINVAL;
  }
  return -EINVAL;
}

// -- files

std::int32_t sim::execute_on_file(flying& f) {
  switch (f.entry->opcode) {
    case IORING_OP_READ:
    case IORING_OP_READV:
      return read_file(f);
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
      return write_file(f);
    case IORING_OP_FSYNC:
      f.on->file->sync(f.sync_mark);
      return 0;
    case sim_op_ftruncate:
      if (!f.on->writes) return -EINVAL;
      if (f.entry->off > sim_file::bytes_max) return -EFBIG;
      f.on->file->truncate(f.entry->off);
      return 0;
    case IORING_OP_RECV:
    case IORING_OP_SEND:
    case IORING_OP_ACCEPT:
    case IORING_OP_CONNECT:
    case IORING_OP_SHUTDOWN:
      return -ENOTSOCK;
    default:
      return -EINVAL;
  }
}

std::int32_t sim::read_file(flying& f) {
  if (!f.on->reads) return -EBADF;
  std::vector<std::byte> data(most(f, world_.memory.room(f.number)));
  data.resize(f.on->file->read(place_of(*f.entry, *f.on), data));
  world_.memory.put(f.number, data);
  if (f.entry->off == position_of_file) f.on->position += data.size();
  return static_cast<std::int32_t>(data.size());
}

std::int32_t sim::write_file(flying& f) {
  if (!f.on->writes) return -EBADF;
  const std::vector<std::byte> data = world_.memory.fetch(f.number);
  const std::size_t count = most(f, data.size());
  const std::uint64_t offset = place_of(*f.entry, *f.on);
  if (offset > sim_file::bytes_max - std::min(count, sim_file::bytes_max)) return -EFBIG;
  if (count != 0) f.on->file->write(offset, std::span(data).first(count));
  if (f.entry->off == position_of_file) f.on->position = offset + count;
  return static_cast<std::int32_t>(count);
}

std::string sim::path_of(flying& f) const {
  std::string path = world_.memory.path(f.number);
  if (f.on != nullptr && !path.starts_with('/'))
    path = f.on->path + (path.empty() ? "" : "/" + path);
  return path;
}

std::int32_t sim::open_path(flying& f) {
  const std::string path = path_of(f);
  const auto flags = static_cast<int>(f.entry->open_flags);
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  auto made = std::make_shared<sim_open>();
  made->path = path;
  made->reads = (flags & O_ACCMODE) != O_WRONLY;
  made->writes = writes;
  made->appends = (flags & O_APPEND) != 0;
  made->file = world_.disk.find(path);
  if (made->file == nullptr && world_.disk.is_folder(path)) {
    if (writes || (flags & O_CREAT) != 0) return -EISDIR;
    made->is = sim_open::kind::folder;
    return world_.open(std::move(made));
  }
  if (made->file != nullptr) {
    if ((flags & O_DIRECTORY) != 0) return -ENOTDIR;
    if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return -EEXIST;
    if ((flags & O_TRUNC) != 0 && writes) made->file->truncate(0);
  } else {
    if ((flags & O_CREAT) == 0) return -ENOENT;
    made->file = world_.disk.create(path);
  }
  return world_.open(std::move(made));
}

std::int32_t sim::stat_path(flying& f) {
  const std::string path = path_of(f);
  const auto file = world_.disk.find(path);
  const bool folder = file == nullptr && world_.disk.is_folder(path);
  if (file == nullptr && !folder) return -ENOENT;
  struct ::statx answer {};
  answer.stx_mask = STATX_TYPE | STATX_MODE | STATX_SIZE | STATX_NLINK;
  answer.stx_mode = static_cast<std::uint16_t>(folder ? S_IFDIR | 0755 : S_IFREG | 0644);
  answer.stx_size = folder ? 0 : file->size();
  answer.stx_nlink = 1;
  answer.stx_blksize = 4096;
  world_.memory.put(f.number, std::as_bytes(std::span(&answer, 1)));
  return 0;
}

// -- pipes and sockets

std::int32_t sim::execute_on_end(flying& f) {
  if (f.entry->opcode == IORING_OP_CONNECT) return connect(f);
  if (f.on->end == nullptr) return -ENOTCONN;
  const bool pipe = f.on->end->in() == nullptr || f.on->end->out() == nullptr;
  if (pipe && (f.entry->opcode == IORING_OP_RECV || f.entry->opcode == IORING_OP_SEND ||
               f.entry->opcode == IORING_OP_SHUTDOWN))
    return -ENOTSOCK;
  if (f.fate.resets) f.on->end->break_off();
  switch (f.entry->opcode) {
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_RECV:
      return receive(f);
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
    case IORING_OP_SEND:
      return send(f);
    case IORING_OP_SHUTDOWN:
      if (sim_channel* const out = f.on->end->out(); out != nullptr && f.entry->len != SHUT_RD)
        out->end();
      if (sim_channel* const in = f.on->end->in(); in != nullptr && f.entry->len != SHUT_WR) {
        in->end();
        in->leave();
      }
      return 0;
    default:
      return -EINVAL;
  }
}

std::int32_t sim::receive(flying& f) {
  sim_channel* const in = f.on->end->in();
  if (in == nullptr) return -EBADF;
  const unsigned flags = socket_flags(f);
  if ((flags & ~unsigned{MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_NOSIGNAL}) != 0)
    return -EOPNOTSUPP;
  if (in->broken()) return -ECONNRESET;
  if ((f.entry->flags & IOSQE_BUFFER_SELECT) != 0) return receive_into_lent(f, *in);
  const std::size_t wanted = world_.memory.room(f.number);
  // Of more than there is room for on the way, what has come is all that can be waited for.
  const bool all =
      (flags & (MSG_WAITALL | MSG_DONTWAIT)) == MSG_WAITALL && !f.on->unblocking && in->room() != 0;
  const std::size_t awaited = all ? wanted : 1;
  if (in->waiting() < std::min(awaited, wanted) && !in->ended()) return not_now(f);
  std::vector<std::byte> data(most(f, wanted));
  data.resize((flags & MSG_PEEK) != 0 ? in->peek(data) : in->pull(data));
  world_.memory.put(f.number, data);
  return static_cast<std::int32_t>(data.size());
}

/// Takes a buffer when there are bytes for it, and says so at once when there is none.
std::int32_t sim::receive_into_lent(flying& f, sim_channel& in) {
  if (lent_free_.empty()) return -ENOBUFS;
  if (in.waiting() == 0) return in.ended() ? 0 : not_now(f);
  f.buffer = static_cast<int>(lent_free_.back());
  lent_free_.pop_back();
  const auto place = lent_.subspan(static_cast<std::size_t>(f.buffer) * lent_bytes_, lent_bytes_);
  return static_cast<std::int32_t>(in.pull(place.first(most(f, place.size()))));
}

std::int32_t sim::send(flying& f) {
  sim_channel* const out = f.on->end->out();
  if (out == nullptr) return -EBADF;
  if ((socket_flags(f) & ~unsigned{MSG_DONTWAIT | MSG_MORE | MSG_NOSIGNAL | MSG_WAITALL}) != 0)
    return -EOPNOTSUPP;
  if (out->left() || out->ended() || out->broken()) return -EPIPE;
  const std::vector<std::byte> data = world_.memory.fetch(f.number);
  if (out->room() == 0 && !data.empty()) return not_now(f);
  return static_cast<std::int32_t>(out->push(std::span(data).first(most(f, data.size()))));
}

/// Of a read and a write the same field says something else.
unsigned sim::socket_flags(const flying& f) noexcept {
  const bool socket_call = f.entry->opcode == IORING_OP_RECV || f.entry->opcode == IORING_OP_SEND;
  return socket_call ? f.entry->msg_flags : 0;
}

std::int32_t sim::not_now(const flying& f) noexcept {
  const bool asked = (socket_flags(f) & MSG_DONTWAIT) != 0;
  return f.on->unblocking || asked ? -EAGAIN : would_block;
}

std::int32_t sim::accept(flying& f) {
  auto& waiting = f.on->listener->waiting;
  if (waiting.empty()) return not_now(f);
  auto made = std::make_shared<sim_open>();
  made->is = sim_open::kind::end;
  made->end = waiting.front();
  waiting.pop_front();
  if (f.entry->addr != 0) {
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    world_.memory.put(f.number, std::as_bytes(std::span(&from, 1)));
  }
  return world_.open(std::move(made));
}

std::int32_t sim::connect(flying& f) {
  if (f.on->end != nullptr) return -EISCONN;
  const std::vector<std::byte> address = world_.memory.fetch(f.number);
  sockaddr_in to{};
  if (address.size() < sizeof to) return -EINVAL;
  std::memcpy(&to, address.data(), sizeof to);
  for (const auto& other : world_.open_) {
    if (other == nullptr || other->listener == nullptr ||
        other->listener->port != ntohs(to.sin_port))
      continue;
    const sim_pair both = make_connection(65536);
    f.on->end = both.one;
    other->listener->waiting.push_back(both.other);
    return 0;
  }
  return -ECONNREFUSED;
}

/// As Linux says it: of a pipe whose other side is gone, and of a socket that still sends though
/// its peer does not.
unsigned sim::readiness(sim_end& end) noexcept {
  sim_channel* const in = end.in();
  sim_channel* const out = end.out();
  const bool pipe = in == nullptr || out == nullptr;
  unsigned holds = 0;
  if ((in != nullptr && in->broken()) || (out != nullptr && out->broken()))
    holds |= POLLIN | POLLOUT | POLLHUP | POLLERR;
  if (in != nullptr && in->waiting() != 0) holds |= POLLIN;
  if (out != nullptr && (out->room() != 0 || out->left())) holds |= POLLOUT;
  if (pipe) {
    if (in != nullptr && in->ended()) holds |= POLLHUP;
    if (out != nullptr && out->left()) holds |= POLLERR;
  } else if (in->ended()) {
    holds |= POLLIN | POLLRDHUP;
    if (out->ended() || out->left()) holds |= POLLHUP;
  }
  return holds;
}

std::int32_t sim::poll(flying& f) const {
  unsigned holds = 0;
  if (f.on->is == sim_open::kind::listener) {
    if (!f.on->listener->waiting.empty()) holds |= POLLIN;
  } else if (f.on->is == sim_open::kind::end) {
    holds = f.on->end == nullptr ? POLLOUT | POLLHUP : readiness(*f.on->end);
  } else {
    holds = POLLIN | POLLOUT;
  }
  holds &= f.entry->poll32_events | POLLHUP | POLLERR;
  return holds == 0 ? would_block : static_cast<std::int32_t>(holds);
}

}  // namespace coir::detail
