// Multi-scale deformable attention for one instruction set. Included once for each by msda.cpp, which defines
//   MSDA_NAMESPACE  where these functions live,
//   MSDA_TARGET     the attribute that lets the compiler use the instructions (on every function: a template
//                   without it would be lowered for the baseline before it is inlined),
//   MSDA_BYTES      width of a vector register.
//
// T is the storage type (float, double, or uint16_t holding bf16), A the type computed in.

namespace MSDA_NAMESPACE {

typedef float FloatVector __attribute__((vector_size(MSDA_BYTES)));
typedef double DoubleVector __attribute__((vector_size(MSDA_BYTES)));
typedef uint32_t WordVector __attribute__((vector_size(MSDA_BYTES)));
typedef uint16_t HalfVector __attribute__((vector_size(MSDA_BYTES / 2)));

template <class A> struct VectorOf;
template <> struct VectorOf<float> { typedef FloatVector type; };
template <> struct VectorOf<double> { typedef DoubleVector type; };

template <class A> constexpr int lanes() { return MSDA_BYTES / sizeof(A); }

MSDA_TARGET MSDA_INLINE void read(const float* from, FloatVector& to) { std::memcpy(&to, from, sizeof to); }
MSDA_TARGET MSDA_INLINE void read(const double* from, DoubleVector& to) { std::memcpy(&to, from, sizeof to); }
MSDA_TARGET MSDA_INLINE void read(const uint16_t* from, FloatVector& to) {
    HalfVector half;
    std::memcpy(&half, from, sizeof half);
    const WordVector bits = __builtin_convertvector(half, WordVector) << 16;
    std::memcpy(&to, &bits, sizeof to);
}

MSDA_TARGET MSDA_INLINE void write(const FloatVector& from, float* to) { std::memcpy(to, &from, sizeof from); }
MSDA_TARGET MSDA_INLINE void write(const DoubleVector& from, double* to) { std::memcpy(to, &from, sizeof from); }
MSDA_TARGET MSDA_INLINE void write(const FloatVector& from, uint16_t* to) {
    for (int i = 0; i < lanes<float>(); ++i) to[i] = to_bf16(from[i]);
}

// Sum of the lanes by quarters of a register: a chain of single additions would cost more than the products.
MSDA_TARGET MSDA_INLINE float total(const FloatVector& vector) {
    typedef float Part __attribute__((vector_size(16)));
    Part parts[MSDA_BYTES / 16];
    std::memcpy(parts, &vector, sizeof parts);
    for (int i = 1; i < MSDA_BYTES / 16; ++i) parts[0] += parts[i];
    return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}
MSDA_TARGET MSDA_INLINE double total(const DoubleVector& vector) {
    typedef double Part __attribute__((vector_size(16)));
    Part parts[MSDA_BYTES / 16];
    std::memcpy(parts, &vector, sizeof parts);
    for (int i = 1; i < MSDA_BYTES / 16; ++i) parts[0] += parts[i];
    return parts[0][0] + parts[0][1];
}

template <class A> struct Corner {
    int64_t offset;  // of the row, from the first row of the image and head
    A weight;
};

// Where a location falls between the pixels of a level. False: nothing of it is inside.
template <class A> struct Point {
    int64_t column, row;
    A x_part, y_part;
};
template <class A>
MSDA_TARGET MSDA_INLINE bool locate(const A* location, int64_t height, int64_t width, Point<A>& point) {
    const A x = location[0] * A(width) - A(0.5), y = location[1] * A(height) - A(0.5);
    if (!(x > A(-1) && y > A(-1) && x < A(width) && y < A(height))) return false;  // NaN ends here too
    point.column = int64_t(x) - (x < 0);
    point.row = int64_t(y) - (y < 0);
    point.x_part = x - A(point.column);
    point.y_part = y - A(point.row);
    return true;
}

// The pixels that L*P locations of one query and head read, those outside left out. Returns how many.
template <class A>
MSDA_TARGET MSDA_INLINE int64_t list_corners(const Problem& p, const A* location, const A* weight, Corner<A>* out) {
    Corner<A>* next = out;
    for (int64_t level = 0; level < p.levels; ++level) {
        const int64_t height = p.heights[level], width = p.widths[level];
        for (int64_t k = 0; k < p.points; ++k, location += 2, ++weight) {
            Point<A> at;
            if (!locate(location, height, width, at)) continue;
            const bool left = at.column >= 0, right = at.column + 1 < width;
            const bool above = at.row >= 0, below = at.row + 1 < height;
            const int64_t first = (p.starts[level] + at.row * width + at.column) * p.row_stride;
            const int64_t second = first + width * p.row_stride;
            const A lower = at.y_part * *weight, upper = *weight - lower;
            // Written whether inside or not, kept only if inside: cheaper than a branch that is hard to foresee.
            *next = {first, upper * (1 - at.x_part)};
            next += above & left;
            *next = {first + p.row_stride, upper * at.x_part};
            next += above & right;
            *next = {second, lower * (1 - at.x_part)};
            next += below & left;
            *next = {second + p.row_stride, lower * at.x_part};
            next += below & right;
        }
    }
    return next - out;
}

// out = sum of weighted rows. V registers hold a row; V = 0: any width, summed in `scratch`.
template <class T, class A, int V>
MSDA_TARGET MSDA_INLINE void sum_rows(const T* rows, const Corner<A>* corners, int64_t count, int64_t width,
                                        A* scratch, T* out) {
    typedef typename VectorOf<A>::type Vector;
    constexpr int step = lanes<A>();
    if (V > 0) {
        Vector sum[V > 0 ? V : 1] = {}, part;
        for (int64_t c = 0; c < count; ++c) {
            const T* row = rows + corners[c].offset;
            const A weight = corners[c].weight;
            for (int v = 0; v < V; ++v) {
                read(row + v * step, part);
                sum[v] += part * weight;
            }
        }
        for (int v = 0; v < V; ++v) write(sum[v], out + v * step);
        return;
    }
    std::fill_n(scratch, width, A(0));
    for (int64_t c = 0; c < count; ++c) {
        const T* row = rows + corners[c].offset;
        const A weight = corners[c].weight;
        for (int64_t i = 0; i < width; ++i) scratch[i] += weight * widen<A>(row[i]);
    }
    for (int64_t i = 0; i < width; ++i) narrow(scratch[i], out[i]);
}

// A block of queries of one image.
template <class T, class A, int V>
MSDA_TARGET static void forward_block(const Problem& p, const T* value, const A* locations, const A* weights,
                                      T* result, int64_t image, int64_t first, int64_t last, void* scratch) {
    const int64_t reads = p.levels * p.points;
    Corner<A>* corners = static_cast<Corner<A>*>(scratch);
    A* sums = reinterpret_cast<A*>(corners + 4 * reads + 1);
    const T* rows = value + image * p.tokens * p.row_stride;
    for (int64_t query = first; query < last; ++query) {
        for (int64_t head = 0; head < p.heads; ++head) {
            const int64_t place = (image * p.queries + query) * p.heads + head;
            const int64_t count =
                list_corners(p, locations + place * reads * 2, weights + place * reads, corners);
            sum_rows<T, A, V>(rows + head * p.width, corners, count, p.width, sums, result + place * p.width);
        }
    }
}

// e^x for x <= 0, to about two units in the last place; without branches, so that a loop of it is vectorised.
MSDA_TARGET MSDA_INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;  // NaN stays
    const float halves = x * 1.44269504f + 12582912.0f;  // the addend moves the rounded integer to the low bits
    const float power = halves - 12582912.0f;
    const float rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &halves, sizeof bits);
    bits = (bits + 127u) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}
MSDA_TARGET MSDA_INLINE double exponential(double x) { return std::exp(x); }

// As forward_block, from what the queries' projection gives: offsets (h,L,P,2), then logits (h,L,P), a query.
// References are points (L,2) or boxes_cxcywh (L,4) a query.
template <class T, class A, int V>
MSDA_TARGET static void projected_block(const Problem& p, const T* value, const A* references, int64_t numbers,
                                        const A* projected, T* result, int64_t image, int64_t first, int64_t last,
                                        void* scratch) {
    const int64_t reads = p.levels * p.points;
    Corner<A>* corners = static_cast<Corner<A>*>(scratch);
    A* sums = reinterpret_cast<A*>(corners + 4 * reads + 1);
    A* weights = sums + p.width;
    A* locations = weights + reads;
    const T* rows = value + image * p.tokens * p.row_stride;
    for (int64_t query = first; query < last; ++query) {
        const int64_t row = image * p.queries + query;
        const A* reference = references + row * p.levels * numbers;
        for (int64_t head = 0; head < p.heads; ++head) {
            const A* offsets = projected + row * p.heads * reads * 3 + head * reads * 2;
            const A* logits = projected + (row * 3 + 2) * p.heads * reads + head * reads;
            A largest = logits[0], total = 0;
            for (int64_t i = 1; i < reads; ++i) largest = logits[i] > largest ? logits[i] : largest;
            for (int64_t i = 0; i < reads; ++i) weights[i] = exponential(logits[i] - largest);
            for (int64_t i = 0; i < reads; ++i) total += weights[i];
            for (int64_t i = 0; i < reads; ++i) weights[i] /= total;
            for (int64_t level = 0; level < p.levels; ++level) {
                const A* at = reference + level * numbers;
                const A width = A(p.widths[level]), height = A(p.heights[level]);
                for (int64_t i = level * p.points; i < (level + 1) * p.points; ++i) {
                    const A x = offsets[2 * i], y = offsets[2 * i + 1];
                    locations[2 * i] = at[0] + (numbers == 2 ? x / width : x / A(p.points) * at[2] * A(0.5));
                    locations[2 * i + 1] = at[1] + (numbers == 2 ? y / height : y / A(p.points) * at[3] * A(0.5));
                }
            }
            const int64_t count = list_corners(p, locations, weights, corners);
            sum_rows<T, A, V>(rows + head * p.width, corners, count, p.width, sums,
                              result + (row * p.heads + head) * p.width);
        }
    }
}

// One corner of the backward pass: adds weight * grad to the row's gradient and gives the lanes of grad . row.
template <class T, class A, int V>
MSDA_TARGET MSDA_INLINE void corner_backward(const typename VectorOf<A>::type* grad, const T* grad_row,
                                             const T* row, A weight, int64_t width, A* row_grad,
                                             typename VectorOf<A>::type& product) {
    typedef typename VectorOf<A>::type Vector;
    if (V > 0) {
        Vector part, sum;
        for (int v = 0; v < V; ++v) {
            read(row + v * lanes<A>(), part);
            product += grad[v] * part;
            read(row_grad + v * lanes<A>(), sum);
            sum += grad[v] * weight;
            write(sum, row_grad + v * lanes<A>());
        }
        return;
    }
    A dot = 0;
    for (int64_t i = 0; i < width; ++i) {
        const A g = widen<A>(grad_row[i]);
        dot += g * widen<A>(row[i]);
        row_grad[i] += g * weight;
    }
    product[0] = dot;
}

// One level of one head of one image: the only one to write these rows of grad_value, so no thread meets another
// and every sum has one order. Rows of one head lie heads * width apart, a stride that falls on few sets of a cache;
// when they are used often enough they are worked on in a dense copy (value, then gradient) in `scratch`.
template <class T, class A, int V>
MSDA_TARGET static void backward_level(const Problem& p, const T* grad, const T* value, const A* locations,
                                       const A* weights, A* grad_value, A* grad_locations, A* grad_weights,
                                       int64_t image, int64_t head, int64_t level, void* scratch) {
    typedef typename VectorOf<A>::type Vector;
    const int64_t height = p.heights[level], width = p.widths[level], tokens = height * width;
    const int64_t start = (image * p.tokens + p.starts[level]) * p.row_stride + head * p.width;
    const bool dense = p.queries * p.points > tokens;
    const T* rows = value + start;
    A* row_grads = grad_value + start;
    int64_t stride = p.row_stride;
    if (dense) {
        row_grads = static_cast<A*>(scratch);
        T* copy = reinterpret_cast<T*>(row_grads + tokens * p.width);
        for (int64_t i = 0; i < tokens; ++i) std::copy_n(rows + i * stride, p.width, copy + i * p.width);
        rows = copy;
        stride = p.width;
    }
    for (int64_t i = 0; i < tokens; ++i) std::fill_n(row_grads + i * stride, p.width, A(0));
    for (int64_t query = 0; query < p.queries; ++query) {
        const int64_t place = (image * p.queries + query) * p.heads + head;
        const T* out_grad = grad + place * p.width;
        // What a query reads and writes lies too far from the last one's for the processor to foresee.
        const int64_t ahead = (place + 4 * p.heads) * p.levels * p.points + level * p.points;
        if (query + 4 < p.queries) {
            __builtin_prefetch(locations + ahead * 2);
            __builtin_prefetch(weights + ahead);
            __builtin_prefetch(grad_locations + ahead * 2, 1);
            __builtin_prefetch(grad_weights + ahead, 1);
            for (int64_t i = 0; i < p.width; i += int64_t(64 / sizeof(T)))
                __builtin_prefetch(out_grad + 4 * p.row_stride + i);
        }
        Vector g[V > 0 ? V : 1];
        for (int v = 0; v < V; ++v) read(out_grad + v * lanes<A>(), g[v]);
        for (int64_t k = 0; k < p.points; ++k) {
            const int64_t read_at = (place * p.levels + level) * p.points + k;
            A* to_location = grad_locations + read_at * 2;
            Point<A> at;
            if (!locate(locations + read_at * 2, height, width, at)) {
                to_location[0] = to_location[1] = grad_weights[read_at] = 0;
                continue;
            }
            const A weight = weights[read_at], x = at.x_part, y = at.y_part;
            const bool left = at.column >= 0, right = at.column + 1 < width;
            const bool above = at.row >= 0, below = at.row + 1 < height;
            const int64_t first = (at.row * width + at.column) * stride;
            const int64_t second = first + width * stride, next = stride;
            Vector dots[4] = {};
            if (above && left)
                corner_backward<T, A, V>(g, out_grad, rows + first, weight * (1 - y) * (1 - x), p.width,
                                         row_grads + first, dots[0]);
            if (above && right)
                corner_backward<T, A, V>(g, out_grad, rows + first + next, weight * (1 - y) * x, p.width,
                                         row_grads + first + next, dots[1]);
            if (below && left)
                corner_backward<T, A, V>(g, out_grad, rows + second, weight * y * (1 - x), p.width,
                                         row_grads + second, dots[2]);
            if (below && right)
                corner_backward<T, A, V>(g, out_grad, rows + second + next, weight * y * x, p.width,
                                         row_grads + second + next, dots[3]);
            // The three gradients are combined lane by lane: three sums of lanes, not four.
            const Vector upper = dots[0] + x * (dots[1] - dots[0]), lower = dots[2] + x * (dots[3] - dots[2]);
            const Vector across = (dots[1] - dots[0]) * (1 - y) + (dots[3] - dots[2]) * y;
            grad_weights[read_at] = total(upper * (1 - y) + lower * y);
            to_location[0] = weight * A(width) * total(across);
            to_location[1] = weight * A(height) * total(lower - upper);
        }
    }
    if (!dense) return;
    for (int64_t i = 0; i < tokens; ++i)
        std::copy_n(row_grads + i * stride, p.width, grad_value + start + i * p.row_stride);
}

// The instance whose V registers are exactly one row, or the one for any width.
template <class T, class A> struct Kernels {
    typedef decltype(&forward_block<T, A, 0>) Forward;
    typedef decltype(&projected_block<T, A, 0>) Projected;
    typedef decltype(&backward_level<T, A, 0>) Backward;
    static Forward forward(int64_t width) {
        switch (width % lanes<A>() ? 0 : width / lanes<A>()) {
            case 1: return &forward_block<T, A, 1>;
            case 2: return &forward_block<T, A, 2>;
            case 4: return &forward_block<T, A, 4>;
            case 8: return &forward_block<T, A, 8>;
            default: return &forward_block<T, A, 0>;
        }
    }
    static Projected projected(int64_t width) {
        switch (width % lanes<A>() ? 0 : width / lanes<A>()) {
            case 1: return &projected_block<T, A, 1>;
            case 2: return &projected_block<T, A, 2>;
            case 4: return &projected_block<T, A, 4>;
            case 8: return &projected_block<T, A, 8>;
            default: return &projected_block<T, A, 0>;
        }
    }
    static Backward backward(int64_t width) {
        switch (width % lanes<A>() ? 0 : width / lanes<A>()) {
            case 1: return &backward_level<T, A, 1>;
            case 2: return &backward_level<T, A, 2>;
            case 4: return &backward_level<T, A, 4>;
            case 8: return &backward_level<T, A, 8>;
            default: return &backward_level<T, A, 0>;
        }
    }
};

}  // namespace MSDA_NAMESPACE
