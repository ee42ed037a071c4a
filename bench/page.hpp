// page.hpp: the page of results of a run of all rows, into which a run of some rows is put.
//
// Always true:
//   - What the new run did not measure stays as it was; what it measured says so in the header.
//
// Comes from: coir_bench.cpp.   Goes to: page.cpp.
#pragma once

#include <string>
#include <vector>

namespace bench {

/// `before` with the rows of `fresh`, which is a page as well, in the order of `names`. Rows that
/// are not among these are left out.
std::string merged_page(const std::string& before, const std::string& fresh,
                        const std::vector<std::string>& names);

}  // namespace bench
