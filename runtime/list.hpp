// list.hpp: the two intrusive orders of waiting: `list`, which any member may leave at once, and
// `queue`, which is left only at the front and needs one of a node's two pointers.
//
// Always true:
//   - Nothing is allocated and nothing can fail: the links live in the members.
//   - First in, first out; `push_front` is the one way to jump the line.
//   - A member says whether it is linked. Zeroed memory is an unlinked member. Linking a linked one
//     or taking out an unlinked one stops the process.
//   - One owner: neither class may be touched by two threads at once.
//
// Glossary: `list` is circular around a sentinel, so erase has no branches and an unlinked node is
// one whose `next` is null. The last member of a `queue` points to itself, so that null can mean
// "unlinked" there too; whoever follows the links by hand must stop at that member.
//
// Comes from: waits, scope, sync, worker.   Goes to: the owner of the members.
#pragma once

#include <type_traits>

#include "runtime/base.hpp"

namespace coir::detail {

struct list_node {
  list_node* previous = nullptr;
  list_node* next = nullptr;
  constexpr bool linked() const noexcept { return next != nullptr; }
};

/// Doubly linked. T derives from Node, and Node is or derives from list_node: a T that waits in two
/// lists at once derives from two node types of its own.
///
/// The destructor checks nothing, so that a global object holding a list needs no code at exit; the
/// owner decides what members left behind mean. Members know the address of the sentinel, hence no
/// copy and no move: splice_back() hands the members over.
template <class T, class Node = list_node>
class list {
 public:
  constexpr list() noexcept : head_{&head_, &head_} {}
  list(const list&) = delete;
  list& operator=(const list&) = delete;

  constexpr bool empty() const noexcept { return head_.next == &head_; }
  T* front() noexcept { return member(head_.next); }
  T* back() noexcept { return member(head_.previous); }
  /// The member behind `one`, null when it is the last.
  T* after(T& one) noexcept {
    list_node& at = node(one);
    COIR_ASSERT(at.linked());
    return member(at.next);
  }

  void push_back(T& one) noexcept { link_before(head_, node(one)); }
  void push_front(T& one) noexcept { link_before(*head_.next, node(one)); }
  /// Before `place`, a member; null: behind the last.
  void insert(T* place, T& one) noexcept {
    link_before(place == nullptr ? head_ : node(*place), node(one));
  }

  /// The oldest member, unlinked; null when the list is empty.
  T* pop_front() noexcept {
    T* const one = front();
    if (one != nullptr) erase(*one);
    return one;
  }

  /// Takes `one` out of this list, wherever in it it stands.
  void erase(T& one) noexcept {
    list_node& leaving = node(one);
    COIR_ASSERT(leaving.linked());
    COIR_ASSERT(leaving.previous->next == &leaving);
    leaving.previous->next = leaving.next;
    leaving.next->previous = leaving.previous;
    leaving.previous = nullptr;
    leaving.next = nullptr;
  }

  /// All members of `other`, in their order, behind ours; `other` is then empty.
  void splice_back(list&& other) noexcept {
    COIR_ASSERT(&other != this);
    if (other.empty()) return;
    list_node& first = *other.head_.next;
    list_node& last = *other.head_.previous;
    first.previous = head_.previous;
    head_.previous->next = &first;
    last.next = &head_;
    head_.previous = &last;
    other.head_.next = &other.head_;
    other.head_.previous = &other.head_;
  }

 private:
  static list_node& node(T& one) noexcept {
    static_assert(std::is_base_of_v<list_node, Node> && std::is_base_of_v<Node, T>);
    return static_cast<Node&>(one);
  }

  T* member(list_node* at) noexcept {
    return at == &head_ ? nullptr : static_cast<T*>(static_cast<Node*>(at));
  }

  static void link_before(list_node& place, list_node& arriving) noexcept {
    COIR_ASSERT(!arriving.linked());
    arriving.previous = place.previous;
    arriving.next = &place;
    place.previous->next = &arriving;
    place.previous = &arriving;
  }

  list_node head_;
};

/// Singly linked through the `next` of Node, so the same node may serve a list at one time and a
/// queue at another. Movable: nothing points to the queue.
template <class T, class Node = list_node>
class queue {
 public:
  constexpr queue() noexcept = default;
  queue(const queue&) = delete;
  queue& operator=(const queue&) = delete;
  queue(queue&& from) noexcept { splice_back(static_cast<queue&&>(from)); }

  /// True while `one` is in some queue or list that uses this node.
  static bool linked(const T& one) noexcept { return static_cast<const Node&>(one).linked(); }

  bool empty() const noexcept { return head_ == nullptr; }
  T* front() const noexcept { return head_; }
  /// The member behind `one`, null when it is the last.
  static T* after(T& one) noexcept {
    list_node* const next = node(one).next;
    COIR_ASSERT(next != nullptr);
    return next == &node(one) ? nullptr : static_cast<T*>(static_cast<Node*>(next));
  }

  void push_back(T& one) noexcept {
    COIR_ASSERT(!linked(one));
    node(one).next = &node(one);
    append(one, one);
  }

  void push_front(T& one) noexcept {
    COIR_ASSERT(!linked(one));
    node(one).next = head_ != nullptr ? &node(*head_) : &node(one);
    if (head_ == nullptr) tail_ = &one;
    head_ = &one;
  }

  /// The oldest member, unlinked; null when the queue is empty.
  T* pop_front() noexcept {
    T* const one = head_;
    if (one == nullptr) return nullptr;
    head_ = after(*one);
    node(*one).next = nullptr;
    return one;
  }

  /// All members of `other`, in their order, behind ours; `other` is then empty.
  void splice_back(queue&& other) noexcept {
    COIR_ASSERT(&other != this);
    if (other.empty()) return;
    append(*other.head_, *other.tail_);
    other.head_ = nullptr;
  }

 private:
  static list_node& node(T& one) noexcept {
    static_assert(std::is_base_of_v<list_node, Node> && std::is_base_of_v<Node, T>);
    return static_cast<Node&>(one);
  }

  void append(T& first, T& last) noexcept {
    if (head_ == nullptr) {
      head_ = &first;
    } else {
      node(*tail_).next = &node(first);
    }
    tail_ = &last;
  }

  T* head_ = nullptr;
  T* tail_ = nullptr;  // means something only while head_ is not null
};

}  // namespace coir::detail
