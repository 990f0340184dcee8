#pragma once

#include "audit/line.hpp"

#include <optional>

namespace curvegate::audit {

/// Walks the bytes of one or several audit files, in their order, and says whether they are one chain. Memory
/// for one line, however long the files are.
class Verifier {
  public:
    struct Fault {
        std::uint64_t line;  ///< in its file, from 1
        Error why;           ///< any of Errc
    };
    struct Summary {
        std::uint64_t lines = 0;
        Link first;
        Link last;
        std::string first_time;
        std::string last_time;
    };

    /// The next bytes of a file; after a fault nothing more may come.
    [[nodiscard]] std::optional<Fault> take(std::string_view bytes);
    /// The file is over; the next bytes are those of the next one.
    [[nodiscard]] std::optional<Fault> end_file();
    [[nodiscard]] const Summary& summary() const noexcept { return summary_; }

  private:
    [[nodiscard]] Result<> check(std::string_view line);

    std::string begun_;         // a line whose end has not come
    std::uint64_t number_ = 0;  // of the last line in this file
    Summary summary_;
};

}  // namespace curvegate::audit
