//! What follows from the totals of rows and columns, as a question about a graph.
//!
//! Rows and columns are vertices, cells of unknown value are edges. What can be changed without changing a total are
//! circulations, and these live on cycles. So a sum over edges at one vertex follows from the totals exactly if no cycle
//! passes between them and the vertex's other edges: if they are all the edges that one block (a part without a cut
//! vertex) has there. Gusfield, "A graph theoretic approach to statistical data security" (1988), shows it for a single
//! cell, which is a bridge; blocks are found as by Hopcroft and Tarjan (1973), without recursion.

use std::collections::{BTreeMap, BTreeSet};

const NO_BLOCK: usize = usize::MAX;

/// A graph without parallel edges. Vertices and edges are numbers.
pub(super) struct Graph {
    ends: Vec<[usize; 2]>,
    at: Vec<Vec<usize>>,
}

impl Graph {
    pub(super) fn new(vertices: usize, ends: Vec<[usize; 2]>) -> Self {
        let mut at = vec![Vec::new(); vertices];
        for (edge, [one, two]) in ends.iter().enumerate() {
            at[*one].push(edge);
            at[*two].push(edge);
        }
        Self { ends, at }
    }

    pub(super) fn edges_at(&self, vertex: usize) -> &[usize] {
        &self.at[vertex]
    }

    pub(super) fn other_end(&self, edge: usize, vertex: usize) -> usize {
        let [one, two] = self.ends[edge];
        if one == vertex { two } else { one }
    }

    /// The block of every live edge.
    pub(super) fn blocks(&self, is_live: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut search = Search::new(self);
        for root in 0..self.at.len() {
            if search.order[root] == 0 {
                search.walk(root, &is_live);
            }
        }
        search.blocks
    }

    /// The edges at each vertex, one set per block.
    pub(super) fn stars(&self, blocks: &[usize]) -> BTreeMap<(usize, usize), Vec<usize>> {
        let mut stars: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (edge, block) in blocks.iter().enumerate().filter(|(_, block)| **block != NO_BLOCK) {
            for vertex in self.ends[edge] {
                stars.entry((vertex, *block)).or_default().push(edge);
            }
        }
        stars
    }

    /// The vertices that live edges connect to the far ends of `edges`, without passing `vertex`.
    pub(super) fn beyond(&self, vertex: usize, edges: &[usize], is_live: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let mut waiting: Vec<usize> = edges.iter().map(|edge| self.other_end(*edge, vertex)).collect();
        let mut reached = BTreeSet::new();
        while let Some(at) = waiting.pop() {
            if at != vertex && reached.insert(at) {
                let live = self.at[at].iter().filter(|edge| is_live(**edge));
                waiting.extend(live.map(|edge| self.other_end(*edge, at)));
            }
        }
        reached
    }
}

/// A depth-first search for blocks.
struct Search<'a> {
    graph: &'a Graph,
    clock: usize,
    /// When a vertex was entered; 0 for never.
    order: Vec<usize>,
    /// The earliest vertex that the vertex and what was entered from it are connected to.
    low: Vec<usize>,
    open: Vec<usize>,
    path: Vec<Step>,
    blocks: Vec<usize>,
    found: usize,
}

struct Step {
    vertex: usize,
    /// The edge by which the vertex was entered; none for a root.
    by: Option<usize>,
    next: usize,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Graph) -> Self {
        let vertices = graph.at.len();
        Self {
            graph,
            clock: 0,
            order: vec![0; vertices],
            low: vec![0; vertices],
            open: Vec::new(),
            path: Vec::new(),
            blocks: vec![NO_BLOCK; graph.ends.len()],
            found: 0,
        }
    }

    fn walk(&mut self, root: usize, is_live: &impl Fn(usize) -> bool) {
        self.enter(root, None);
        while let Some(step) = self.path.last_mut() {
            let vertex = step.vertex;
            match self.graph.at[vertex].get(step.next) {
                Some(edge) => {
                    step.next += 1;
                    if is_live(*edge) && step.by != Some(*edge) {
                        self.follow(*edge, vertex);
                    }
                }
                None => self.leave(),
            }
        }
    }

    fn enter(&mut self, vertex: usize, by: Option<usize>) {
        self.clock += 1;
        self.order[vertex] = self.clock;
        self.low[vertex] = self.clock;
        self.path.push(Step { vertex, by, next: 0 });
    }

    fn follow(&mut self, edge: usize, vertex: usize) {
        let other = self.graph.other_end(edge, vertex);
        if self.order[other] == 0 {
            self.open.push(edge);
            self.enter(other, Some(edge));
        } else if self.order[other] < self.order[vertex] {
            self.open.push(edge);
            self.low[vertex] = self.low[vertex].min(self.order[other]);
        }
    }

    fn leave(&mut self) {
        let (Some(Step { vertex, by: Some(by), .. }), Some(parent)) = (self.path.pop(), self.path.last()) else {
            return;
        };
        let parent = parent.vertex;
        self.low[parent] = self.low[parent].min(self.low[vertex]);
        if self.low[vertex] >= self.order[parent] {
            self.close(by);
        }
    }

    /// What is open since the edge is a block.
    fn close(&mut self, first: usize) {
        while let Some(edge) = self.open.pop() {
            self.blocks[edge] = self.found;
            if edge == first {
                break;
            }
        }
        self.found += 1;
    }
}
