# weir_embed(<source> FILE <file> SYMBOL <name> NAMESPACE <namespace>): a C++ source with the text of
# the file as a std::string_view, made anew when the file changes.
function(weir_embed source)
  cmake_parse_arguments(arg "" "FILE;SYMBOL;NAMESPACE" "" ${ARGN})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${arg_FILE})
  file(READ ${arg_FILE} text)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[#include <string_view>
namespace @arg_NAMESPACE@ {
extern const std::string_view @arg_SYMBOL@;
const std::string_view @arg_SYMBOL@ = R"embedded(@text@)embedded";
}
]])
endfunction()
