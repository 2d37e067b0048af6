#include "tests/bpf/balancer_fixture.h"

namespace weir::testing {

Result<std::unique_ptr<BpfRunner>> make_runner_under_test(BpfProgram program,
                                                          const BpfSettings& settings) {
  return make_host_runner(program, settings);
}

}  // namespace weir::testing
