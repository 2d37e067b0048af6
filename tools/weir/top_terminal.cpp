#include "tools/weir/top_terminal.h"

#define NCURSES_NOMACROS 1  // functions: the macros have names such as erase
#include <curses.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace weir::cli {
namespace {

constexpr short kRed = 1;
constexpr int kEscape = 27;
constexpr int kEscapeDelayMs = 25;  // after which Esc is Esc and not the beginning of a key
constexpr int kFirstPrintable = 32;
constexpr int kLastPrintable = 126;
constexpr int kDelete = 127;
constexpr int kBackspaceByte = 8;

attr_t attributes_of(TopStyle style, bool has_red) {
  switch (style) {
    case TopStyle::kPlain:
      return A_NORMAL;
    case TopStyle::kTitle:
      return A_BOLD;
    case TopStyle::kHeading:
      return A_UNDERLINE;
    case TopStyle::kSelected:
      return A_REVERSE;
    case TopStyle::kAlarm:
      return has_red ? static_cast<attr_t>(COLOR_PAIR(kRed)) : A_BOLD;
    case TopStyle::kFaint:
      return A_DIM;
  }
  return A_NORMAL;
}

struct KeyRow {
  int code;
  TopKey key;
};
constexpr std::array<KeyRow, 13> kKeys{{{KEY_UP, TopKey::kUp},
                                        {KEY_DOWN, TopKey::kDown},
                                        {KEY_PPAGE, TopKey::kPageUp},
                                        {KEY_NPAGE, TopKey::kPageDown},
                                        {KEY_HOME, TopKey::kHome},
                                        {KEY_END, TopKey::kEnd},
                                        {KEY_ENTER, TopKey::kEnter},
                                        {'\r', TopKey::kEnter},
                                        {'\n', TopKey::kEnter},
                                        {kEscape, TopKey::kEscape},
                                        {KEY_BACKSPACE, TopKey::kBackspace},
                                        {kDelete, TopKey::kBackspace},
                                        {kBackspaceByte, TopKey::kBackspace}}};

}  // namespace

/// What ncurses has one of.
struct Terminal::Screen {
  SCREEN* screen = nullptr;
  bool has_red = false;
};

void Terminal::EndScreen::operator()(Screen* screen) const {
  ::endwin();
  ::delscreen(screen->screen);
  delete screen;
}

Result<Terminal> Terminal::open() {
  if (::isatty(STDIN_FILENO) == 0 || ::isatty(STDOUT_FILENO) == 0)
    return Error{ErrorCode::kInvalid, "input or output is no terminal",
                 "'weir top --once' prints one frame"};
  SCREEN* opened = ::newterm(nullptr, stdout, stdin);
  if (opened == nullptr) {
    const char* name = std::getenv("TERM");
    return Error{ErrorCode::kUnsupported,
                 fmt::format("the terminal '{}' is not known here", name == nullptr ? "" : name),
                 "set TERM, or use 'weir top --once'"};
  }
  std::unique_ptr<Screen, EndScreen> screen{new Screen{.screen = opened}};
  ::cbreak();
  ::noecho();
  ::nonl();
  ::keypad(stdscr, TRUE);
  ::nodelay(stdscr, TRUE);
  ::set_escdelay(kEscapeDelayMs);
  ::curs_set(0);
  // https://no-color.org: whoever sets it, to anything, wants none.
  const char* no_color = std::getenv("NO_COLOR");
  const bool is_unwanted = no_color != nullptr && *no_color != '\0';
  if (!is_unwanted && ::has_colors() && ::start_color() == OK && ::use_default_colors() == OK)
    screen->has_red = ::init_pair(kRed, COLOR_RED, -1) == OK;
  return Terminal{std::move(screen)};
}

std::pair<std::size_t, std::size_t> Terminal::size() const {
  return {static_cast<std::size_t>(std::max(getmaxy(stdscr), 1)),
          static_cast<std::size_t>(std::max(getmaxx(stdscr), 1))};
}

void Terminal::draw(const std::vector<TopLine>& lines) {
  ::erase();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    ::attrset(static_cast<int>(attributes_of(lines[i].style, screen_->has_red)));
    // The last column of the last line cannot be left, which ncurses calls an error; it is written.
    ::mvaddstr(static_cast<int>(i), 0, lines[i].text.c_str());
  }
  ::attrset(A_NORMAL);
  ::refresh();
}

std::optional<Terminal::Press> Terminal::key() {
  for (int code = ::getch(); code != ERR; code = ::getch()) {
    const auto* row = std::ranges::find(kKeys, code, &KeyRow::code);
    if (row != kKeys.end()) return Press{row->key, 0};
    if (code >= kFirstPrintable && code <= kLastPrintable)
      return Press{TopKey::kCharacter, static_cast<char>(code)};
  }
  return std::nullopt;
}

}  // namespace weir::cli
