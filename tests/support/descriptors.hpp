#pragma once

#include <sys/resource.h>

namespace curvegate::test {

/// Does `work` while this process can open nothing more, and gives what it gives. It should assert nothing: a
/// sanitizer needs descriptors to look at what an assertion is made of.
template <class Work>
auto without_descriptors(Work work) {
    class Limit {
      public:
        Limit() {
            ::getrlimit(RLIMIT_NOFILE, &before_);
            const rlimit none{0, before_.rlim_max};
            ::setrlimit(RLIMIT_NOFILE, &none);
        }
        ~Limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
        Limit(const Limit&) = delete;
        Limit& operator=(const Limit&) = delete;

      private:
        rlimit before_{};
    };
    const Limit limit;
    return work();
}

}  // namespace curvegate::test
