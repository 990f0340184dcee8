#include "daemon/front/workers.hpp"

#include <boost/asio/post.hpp>

#include <system_error>
#include <utility>

namespace curvegate::daemon::front {

Result<> Workers::add(const serve::Shared& shared, std::function<void()> vault_lost) {
    auto worker = serve::Worker::create(shared);
    if (!worker) return fail(std::move(worker));
    (*worker)->on_vault_lost = [this, vault_lost = std::move(vault_lost)] { asio::post(front_, vault_lost); };
    workers_.push_back(std::move(*worker));
    return {};
}

void Workers::start() {
    try {
        for (auto& worker : workers_) threads_.emplace_back([&worker = *worker] { worker.run(); });
    } catch (const std::system_error&) {
        stop();
        throw;
    }
}

void Workers::stop() {
    for (auto& worker : workers_) worker->stop();
    for (auto& thread : std::exchange(threads_, {})) thread.join();
}

void Workers::attach_vault(std::size_t worker, os::UniqueFd connection) {
    workers_[worker]->attach_vault(std::move(connection));
}

// Makes a handler for each worker; when all have been called, `done` gets the sum.
std::function<serve::Worker::AppliedFn()> Workers::gather(EndedFn done) {
    struct Sum {
        std::size_t total = 0;
        std::size_t missing;
    };
    auto sum = std::make_shared<Sum>(Sum{0, workers_.size()});
    return [this, sum, done = std::move(done)] {
        return serve::Worker::AppliedFn([this, sum, done](std::size_t ended) {
            asio::post(front_, [sum, done, ended] {
                sum->total += ended;
                if (--sum->missing == 0 && done) done(sum->total);
            });
        });
    };
}

void Workers::apply(const serve::Worker::RegistryPtr& peers, std::vector<std::vector<serve::Door>> doors,
                    EndedFn done) {
    const auto gathered = gather(std::move(done));
    for (std::size_t i = 0; i < workers_.size(); ++i)
        workers_[i]->apply(peers, std::move(doors[i]), gathered());
}

void Workers::apply(const serve::Worker::RegistryPtr& peers, EndedFn done) {
    const auto gathered = gather(std::move(done));
    for (auto& worker : workers_) worker->apply(peers, gathered());
}

void Workers::report(const std::function<void(const Reports&)>& done) {
    auto reports = std::make_shared<Reports>();
    for (auto& worker : workers_) {
        worker->report([this, reports, done](serve::Worker::Report report) {
            asio::post(front_, [this, reports, done, report = std::move(report)]() mutable {
                reports->push_back(std::move(report));
                if (reports->size() == workers_.size()) done(*reports);
            });
        });
    }
}

void Workers::drain(const std::function<void()>& when_empty) {
    draining_ = workers_.size();
    for (auto& worker : workers_) {
        worker->drain([this, when_empty] {
            asio::post(front_, [this, when_empty] {
                if (--draining_ == 0) when_empty();
            });
        });
    }
}

void Workers::cut() {
    for (auto& worker : workers_) worker->cut();
}

}  // namespace curvegate::daemon::front
