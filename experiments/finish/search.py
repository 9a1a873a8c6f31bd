import sys,pickle,numpy as np,time,itertools
from concurrent.futures import ProcessPoolExecutor
from featherface.inference.postprocess import postprocess
from featherface.evaluation.widerface import judge, WiderGroundTruth
C,scales,gts=pickle.load(open(sys.argv[2],"rb"))
per=np.repeat(scales,np.diff(gts.offsets))[:,None]; boxes=gts.boxes_xywh*per; hh=boxes[:,3]
G=WiderGroundTruth(names=gts.names,boxes_xywh=boxes,offsets=gts.offsets,is_counted={},total_images=len(C))
half=np.repeat(np.arange(len(C))%2,np.diff(gts.offsets))
def score(args):
    S,off,T=args; off=np.array(off); P={}; 
    for name,_,a,b,box,lm,pri,lev in C:
        mg=((a+S*np.clip(b-a,-4,4)+off[lev])/T); lg=np.stack([-mg/2,mg/2],1).astype(np.float32)
        d=postprocess(lg,box,lm,pri,score_threshold=0.02,iou_threshold=0.4,max_faces=750); q=d.boxes_xyxy
        P[name]=np.column_stack([q[:,:2],q[:,2:]-q[:,:2],d.scores])
    res=[]
    for k in (0,1,None):
        names=[n for i,n in enumerate(G.names) if k is None or i%2==k]
        # judge on a subset: predictions of the others empty and their faces ignored
        PP={n:(P[n] if k is None or i%2==k else np.zeros((0,5),np.float32)) for i,n in enumerate(G.names)}
        j=judge(PP,G); ok=gts.is_valid if k is None else gts.is_valid&(half==k)
        e=[100*j.curve(ok&(hh>=t)).average_precision for t in (50,30,10)]; res.append((*e,sum(e)/3))
    ap=lambda m:100*j.curve(gts.is_valid&m).average_precision
    sl=[ap((hh>=lo)&(hh<hi)) for lo,hi in ((10,16),(16,32),(32,64),(64,128),(128,9999))]
    return res,sl
def show(a,r):
    (h0,h1,al),sl=r; print(a,"E/M/H %.2f %.2f %.2f mean %.2f"%al,"halves %.2f %.2f"%(h0[3],h1[3]),"slices "+" ".join("%.1f"%v for v in sl),flush=True)
if __name__=="__main__":
    grid=eval(sys.argv[1])
    with ProcessPoolExecutor(1) as ex:
        for a,r in zip(grid,ex.map(score,grid)): show(a,r)
