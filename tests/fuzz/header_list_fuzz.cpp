#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "l4/base/assert.h"
#include "l7/http/message.h"
#include "l7/http/semantics.h"

/// Whatever is done to a list of fields, in whatever order: it holds what a plain vector of pairs
/// would hold. Arguments point into the list itself wherever the input says so.
namespace {

using namespace weir;

using Model = std::vector<std::pair<std::string, std::string>>;

constexpr std::string_view kNames[] = {"host",   "Host", "x-a",  "X-A",    "Connection", "te",
                                       "Cookie", "",     "vary", "close",  "Upgrade",    "Via",
                                       "x-b",    "X-Ab", "Date", "trailer"};

/// The input, byte by byte; zeros behind its end.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_{data}, size_{size} {}
  [[nodiscard]] bool any() const { return at_ < size_; }
  std::uint8_t next() { return at_ < size_ ? data_[at_++] : std::uint8_t{0}; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

/// A name or a value: one of ours, or one that stands in the list.
std::string_view pick(Choices& choices, const http::HeaderList& list) {
  const std::uint8_t choice = choices.next();
  if (choice < 128 || list.empty()) return kNames[choice % std::size(kNames)];
  const http::Field field = list[choices.next() % list.size()];
  return choice % 2 == 0 ? field.name : field.value;
}

auto is(std::string_view name) {
  return [name](const auto& entry) { return http::equals_ignoring_case(entry.first, name); };
}

void set(Model& model, const std::string& name, const std::string& value) {
  const auto first = std::find_if(model.begin(), model.end(), is(name));
  if (first == model.end()) {
    model.emplace_back(name, value);
    return;
  }
  first->second = value;
  model.erase(std::remove_if(first + 1, model.end(), is(name)), model.end());
}

void check_name(const http::HeaderList& list, const Model& model, const std::string& name) {
  const auto found = std::find_if(model.begin(), model.end(), is(name));
  const std::optional<std::string_view> value = list.find(name);
  WEIR_ASSERT(value.has_value() == (found != model.end()));
  if (value) WEIR_ASSERT(*value == found->second);
  std::size_t count = 0;
  for (const http::Field field : list.find_all(name)) {
    WEIR_ASSERT(http::equals_ignoring_case(field.name, name));
    ++count;
  }
  WEIR_ASSERT(count == list.count(name));
  WEIR_ASSERT(count ==
              static_cast<std::size_t>(std::count_if(model.begin(), model.end(), is(name))));
}

void check_all(const http::HeaderList& list, const Model& model) {
  WEIR_ASSERT(list.size() == model.size() && list.empty() == model.empty());
  std::size_t i = 0;
  for (const http::Field field : list) {
    // A name that is set again may keep its first spelling or take the new one: case means nothing.
    WEIR_ASSERT(http::equals_ignoring_case(field.name, model[i].first));
    WEIR_ASSERT(field.value == model[i].second);
    ++i;
  }
}

void act(Choices& choices, http::HeaderList& list, Model& model) {
  const std::uint8_t action = choices.next() % 8;
  // What add() has broken stays so until something else changes the list, or until the end.
  if (action < 4) check_all(list, model);
  const std::string_view name = pick(choices, list);
  const std::string name_copy{name};
  const std::string_view value = pick(choices, list);
  const std::string value_copy{value};
  switch (action) {
    case 0:
      list.clear();
      model.clear();
      return;
    case 1: {
      const auto is_it = is(name_copy);
      const auto count = std::count_if(model.begin(), model.end(), is_it);
      std::erase_if(model, is_it);
      WEIR_ASSERT(list.remove(name) == static_cast<std::size_t>(count));
      return;
    }
    case 2:
    case 3:
      list.set(name, value);
      set(model, name_copy, value_copy);
      return;
    case 4:
      check_name(list, model, name_copy);
      return;
    default:
      list.add(name, value);
      model.emplace_back(name_copy, value_copy);
      return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kFieldsMax = 200;
  Choices choices{data, size};
  http::HeaderList list;
  Model model;
  while (choices.any() && model.size() < kFieldsMax)
    act(choices, list, model);
  check_all(list, model);
  // What is meant for the next hop goes, and nothing that Connection cannot name.
  const bool has_host = list.contains("Host");
  http::remove_hop_by_hop(list);
  for (const std::string_view name : {"Connection", "TE", "Upgrade", "Trailer"})
    WEIR_ASSERT(!list.contains(name));
  WEIR_ASSERT(list.contains("Host") == has_host);
  return 0;
}
