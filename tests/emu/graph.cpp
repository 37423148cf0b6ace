// SPDX-License-Identifier: MIT
// Graphs: the nodes of a capture, run in any order that their dependencies allow.
#include "runtime.h"

namespace emu
{
void run_nodes(const std::vector<GraphNode> &nodes)
{
    std::vector<int> waits(nodes.size());
    std::vector<std::vector<int>> next(nodes.size());
    std::vector<int> ready;
    for (size_t i = 0; i < nodes.size(); i++) {
        std::set<int> after(nodes[i].after.begin(), nodes[i].after.end());
        waits[i] = static_cast<int>(after.size());
        for (int a : after) next[static_cast<size_t>(a)].push_back(static_cast<int>(i));
        if (!waits[i]) ready.push_back(static_cast<int>(i));
    }
    while (!ready.empty()) {
        size_t pick = runtime_random() % ready.size();
        size_t node = static_cast<size_t>(ready[pick]);
        ready[pick] = ready.back();
        ready.pop_back();
        nodes[node].body();
        for (int n : next[node])
            if (--waits[static_cast<size_t>(n)] == 0) ready.push_back(n);
    }
}

static bool same_shape(const std::vector<GraphNode> &a, const std::vector<GraphNode> &b)
{
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); i++)
        if (a[i].after != b[i].after || !a[i].kernel != !b[i].kernel) return false;
    return true;
}
} // namespace emu

using namespace emu;

extern "C" {
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    *exec = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    Lock lock(runtime_lock);
    if (stream_of(stream)->capture) return ret(cudaErrorStreamCaptureUnsupported);
    if (cudaError_t e = broken()) return ret(e);
    // A copy: an update or the end of exec does not touch launches under way.
    auto nodes = std::make_shared<std::vector<GraphNode>>(exec->nodes);
    for (GraphNode &node : *nodes)
        if (CUevent_st *e = node.records) {
            uint64_t number = ++e->recorded;
            node.body = [e, number] { event_passes(e, number); };
        }
    return ret(enqueue(stream, [nodes] { run_nodes(*nodes); }));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream)
{
    Lock lock(runtime_lock);
    (void)stream_of(stream);
    return ret(broken());
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *info)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    bool same = same_shape(exec->nodes, graph->nodes);
    info->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
    if (!same) return ret(cudaErrorGraphExecUpdateFailure);
    exec->nodes = graph->nodes;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    Lock lock(runtime_lock);
    if (nodes) return ret(cudaErrorNotSupported); // only their number is known
    *count = graph->nodes.size();
    return ret(broken());
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    Lock lock(runtime_lock);
    delete exec;
    return ret(broken());
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    Lock lock(runtime_lock);
    delete graph;
    return ret(broken());
}
}
