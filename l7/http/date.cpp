#include "l7/http/date.h"

#include <chrono>

#include "l4/base/assert.h"

namespace weir::http {
namespace {

constexpr std::string_view kDays = "SunMonTueWedThuFriSat";
constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";

}  // namespace

std::string_view DateText::of(std::uint64_t unix_seconds) {
  if (unix_seconds == written_) return {text_.data(), text_.size()};
  using namespace std::chrono;
  const sys_seconds time{seconds{unix_seconds}};
  const sys_days day = floor<days>(time);
  const year_month_day date{day};
  const hh_mm_ss clock{time - day};
  const int year = int{date.year()};
  WEIR_ASSERT(year < 10'000);  // whoever asks has a clock
  char* out = text_.data();
  const auto put = [&](std::string_view text) {
    for (const char c : text)
      *out++ = c;
  };
  const auto put_number = [&](unsigned value, int digits) {
    for (int i = digits - 1; i >= 0; --i, value /= 10)
      out[i] = static_cast<char>('0' + value % 10);
    out += digits;
  };
  put(kDays.substr(3 * weekday{day}.c_encoding(), 3));
  put(", ");
  put_number(unsigned{date.day()}, 2);
  put(" ");
  put(kMonths.substr(3 * (unsigned{date.month()} - 1), 3));
  put(" ");
  put_number(static_cast<unsigned>(year), 4);
  put(" ");
  put_number(static_cast<unsigned>(clock.hours().count()), 2);
  put(":");
  put_number(static_cast<unsigned>(clock.minutes().count()), 2);
  put(":");
  put_number(static_cast<unsigned>(clock.seconds().count()), 2);
  put(" GMT");
  WEIR_ASSERT(out == text_.data() + text_.size());
  written_ = unix_seconds;
  return {text_.data(), text_.size()};
}

}  // namespace weir::http
